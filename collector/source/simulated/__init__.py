"""A network that does not exist, served as the real sources would serve it: for demonstrations and tests."""
