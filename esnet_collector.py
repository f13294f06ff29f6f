"""ESnet Collector: the entry point. It hands the command line over to the package `collector`."""

import sys

if sys.version_info < (3, 11):  # noqa: UP036 - whoever runs it with an older Python is told so, not shown a SyntaxError
    sys.stderr.write("esnet_collector.py needs Python 3.11 or later; this is %d.%d\n" % sys.version_info[:2])  # noqa: UP031
    sys.exit(2)

from collector.commands.cli import main

if __name__ == "__main__":
    sys.exit(main())
