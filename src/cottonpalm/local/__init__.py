"""A small language model that runs inside this machine: no key, no compiler, no network after the first fetch."""
