"""Several endpoints that may answer a row: which one does, and when a row leaves one for another."""
