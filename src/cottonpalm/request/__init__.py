"""The request level: one model request with its tries, its permit and its money. It knows rows only by `RowAccount`."""
