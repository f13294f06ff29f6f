"""For people and alarms: state, health, metrics, logs, and the web server with its page."""
