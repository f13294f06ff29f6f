"""Every setting: declared once, read from the environment and the file, and checked."""
