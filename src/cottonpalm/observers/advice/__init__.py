"""What to change before the next run: a report in, sentences out. Pure."""
