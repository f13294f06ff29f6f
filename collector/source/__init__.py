"""Where interfaces and points come from: a folder for each source, one for their HTTP client, one that simulates them."""
