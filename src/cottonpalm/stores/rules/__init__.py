"""The decisions of stores. They use no clock and no I/O."""
