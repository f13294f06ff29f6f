"""Real servers for tests, benchmarks and soaks: each class starts one on a free port and stops exactly that one."""
