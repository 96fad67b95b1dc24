"""The readers: they open input files and yield rows."""
