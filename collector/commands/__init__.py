"""What the command line does, and the wiring: which class stands behind which contract."""
