"""Reads a chain: its parts, its fingerprint, and which part of a row it asks about. It never changes a chain."""
