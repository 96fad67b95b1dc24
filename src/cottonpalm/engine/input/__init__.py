"""Rows in: read lazily, told apart, and put in the order in which they start."""
