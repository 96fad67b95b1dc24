"""Files of any kind, packed or not, here or elsewhere."""
