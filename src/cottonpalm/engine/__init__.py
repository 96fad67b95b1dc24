"""The row level: one run, from a row that is read to an outcome that is durable. It knows nothing about HTTP."""
