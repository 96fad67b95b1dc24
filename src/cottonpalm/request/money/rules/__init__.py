"""The decisions about prices, bounds and grants. They use no clock and no I/O."""
