"""The live page: all runs of a store in a browser, as they go. It reads the store, and gives orders through it."""
