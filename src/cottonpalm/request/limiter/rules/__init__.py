"""How limits are found and kept: decisions without clock and I/O."""
