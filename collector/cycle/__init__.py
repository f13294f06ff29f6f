"""The order of things: list, reconcile, announce, plan, fetch, publish, advance; a backfill runs on the same engine."""
