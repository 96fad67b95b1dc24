"""Finds out, before a run is made, what it would ask, what it would cost and how long it would take."""
