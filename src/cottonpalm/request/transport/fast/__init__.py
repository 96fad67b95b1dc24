"""The fast transport: a second door into `attempts`, which replaces what an SDK does between a model and the socket."""
