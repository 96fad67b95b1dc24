"""Files of any format, packed or not, on this machine or at an address."""
