"""Loops, threads and queues, without a word about rows."""
