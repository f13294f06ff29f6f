"""Reads the small files that settings name: regular files of a known size, so that no pipe and no device can hold us up."""

import os
import stat

MOST_BYTES = 65_536
"""For settings and passwords; certificates may be longer."""


def read_file(name: str | os.PathLike[str], most_bytes: int = MOST_BYTES) -> bytes:
    """The content of a regular file of at most so many bytes.

    Raises OSError, its `strerror` fit for an operator, and ValueError for a name that cannot exist.
    """
    # without O_NONBLOCK opening a named pipe waits for a writer
    with open(os.open(name, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
        kind = os.fstat(file.fileno()).st_mode
        if stat.S_ISDIR(kind):
            raise IsADirectoryError(0, "Is a directory")
        if not stat.S_ISREG(kind) and os.fspath(name) != os.devnull:
            raise OSError(0, "it is no regular file")
        content = file.read(most_bytes + 1)
    if len(content) > most_bytes:
        raise OSError(0, f"it is longer than {most_bytes:,} bytes")
    return content
