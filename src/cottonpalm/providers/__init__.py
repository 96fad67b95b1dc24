"""What differs between providers."""
