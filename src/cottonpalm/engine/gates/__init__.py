"""What stands round a row, whoever calls the chain: the answer of the store, the answer of the cache."""
