"""What the documentation, the alerts and the dashboard may name."""

from collector.watch.metrics import COUNTERS, GAUGES, LATENCY, Description

METRICS: tuple[Description, ...] = (*COUNTERS.values(), LATENCY, *GAUGES)
"""Every metric of the collector's own, in the order in which they are shown."""
