"""Outcomes out: durable first, then to the reader."""
