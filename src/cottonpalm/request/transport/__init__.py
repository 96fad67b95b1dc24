"""The ways from a chain to `attempts`: the hook in the HTTP clients, the callback, and the code that sends."""
