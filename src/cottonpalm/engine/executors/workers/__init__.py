"""Rows run in other processes: those of this machine, or of a Ray cluster."""
