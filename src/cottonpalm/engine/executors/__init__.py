"""The executors: they take rows from the scheduler and call the chain for them."""
