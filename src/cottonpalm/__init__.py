"""chain.batch() that is fast, stays within its budget, and loses nothing."""

__version__ = "0.1.0"
