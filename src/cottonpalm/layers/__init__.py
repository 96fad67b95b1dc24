"""Layers: what concerns a row's answer as a whole."""
