"""Reading a chain: its parts, its fingerprint, what of a row it asks. It never changes one."""
