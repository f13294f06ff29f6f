"""The parts of `tests/benchmark.py`: a stage of real servers, one module a measure, and the rivals."""
