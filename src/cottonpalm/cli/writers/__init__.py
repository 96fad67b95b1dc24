"""Outcomes out, as files."""
