"""ESnet Collector: polls Netbeam or Stardust for ESnet's interfaces, and feeds a RabbitMQ bus without missing a point."""

__version__ = "2.0.0"
