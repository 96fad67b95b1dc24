"""The gates round each row: one answers from the store, one from the cache. They do not know who calls the chain."""
