"""Stores: where results are durable."""
