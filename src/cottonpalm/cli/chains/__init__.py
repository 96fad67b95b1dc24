"""Builds a chain from options."""
