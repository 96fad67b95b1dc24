"""HTTP/1.1 over asyncio, for requests whose answers are read whole."""
