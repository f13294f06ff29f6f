"""Where messages go: RabbitMQ, or the standard output in its place."""
