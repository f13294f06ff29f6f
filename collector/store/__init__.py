"""The table `esnet_interfaces` and the lock: MySQL, or an SQLite file in its place."""
