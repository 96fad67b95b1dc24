"""Numbers, kinds and causes in words that people read. Pure."""
