"""One model request."""
