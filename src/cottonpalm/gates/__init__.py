"""Gates: what stands round a row for every executor."""
