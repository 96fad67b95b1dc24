"""The output side: an outcome is first made durable, then given to the reader."""
