"""The input side: reads rows lazily, tells which stored row each one is, and orders them for the start."""
