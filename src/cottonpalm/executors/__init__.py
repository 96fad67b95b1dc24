"""Executors: turn admitted items into outcomes."""
