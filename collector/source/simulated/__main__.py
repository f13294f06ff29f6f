"""`python -m collector.source.simulated`: serves the simulated network until it is stopped, as Netbeam or as Stardust."""

import sys

from collector.source.simulated import server, stardust_server

STARDUST = "--stardust"

words = sys.argv[1:]
if STARDUST in words:
    raise SystemExit(stardust_server.main([each for each in words if each != STARDUST]))
raise SystemExit(server.main(words))
