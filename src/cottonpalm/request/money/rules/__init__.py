"""Prices, bounds and grants: decisions without clock and I/O."""
