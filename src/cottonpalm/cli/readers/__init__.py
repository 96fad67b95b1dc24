"""Files in, as rows."""
