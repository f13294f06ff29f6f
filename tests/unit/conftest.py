"""Settings of the unit tier: it runs in two seconds, and the same way every time.

`HYPOTHESIS_EXAMPLES=500 tests/run tests/unit` looks at more examples of each property, and at others each time.
"""

import os

from hypothesis import settings

EXAMPLES = int(os.environ.get("HYPOTHESIS_EXAMPLES", "15"))

settings.register_profile("unit", max_examples=EXAMPLES, deadline=None, derandomize=EXAMPLES <= 15, database=None)
settings.load_profile("unit")
