"""ESnet Collector: polls Netbeam, the API of ESnet's interfaces, and feeds a RabbitMQ bus without missing a point."""

__version__ = "1.0.0"
