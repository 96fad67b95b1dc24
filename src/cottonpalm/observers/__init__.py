"""Observers: read-only."""
