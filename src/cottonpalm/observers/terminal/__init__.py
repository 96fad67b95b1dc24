"""A run while it goes, on a terminal or in a log."""
