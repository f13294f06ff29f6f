"""`python -m collector.source.simulated`: serves the simulated network until it is stopped."""

from collector.source.simulated.server import main

raise SystemExit(main())
