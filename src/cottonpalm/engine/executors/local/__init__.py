"""Rows run as coroutines of this process."""
