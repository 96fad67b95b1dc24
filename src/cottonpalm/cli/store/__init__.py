"""The store as a command holds it, or looks into it."""
