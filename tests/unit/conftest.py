"""Settings of the unit tier: it runs in two seconds, and the same way every time."""

from hypothesis import settings

settings.register_profile("unit", max_examples=50, deadline=None, derandomize=True, database=None)
settings.load_profile("unit")
