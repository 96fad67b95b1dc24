"""Admission in virtual time: providers with every kind of limit, ours and other ways to meet them."""
