"""A chain called for one row."""
