"""Who calls the chain for the rows that were let in."""
