"""Decisions about shared prompts. No clock, no I/O, no threads."""
