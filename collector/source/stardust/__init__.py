"""Stardust, the Elasticsearch index in which ESnet publishes its interfaces and their measurements."""
