"""The writers: they write outcomes to files."""
