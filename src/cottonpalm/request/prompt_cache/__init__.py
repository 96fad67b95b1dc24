"""Lets the requests of a run pay for the prompt that they share once: sees it, warms it, asks for it."""
