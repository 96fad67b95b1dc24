"""What stores decide without clock and I/O."""
