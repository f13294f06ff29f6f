"""Values, errors, the contracts of the three systems, shutdown and counters; no I/O."""
