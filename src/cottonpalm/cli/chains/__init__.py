"""From options to a chain."""
