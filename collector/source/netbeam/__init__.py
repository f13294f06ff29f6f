"""Netbeam, ESnet's API for its interfaces and their measurements."""
