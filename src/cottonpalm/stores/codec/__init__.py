"""Records: outcomes as bytes, and back, without pickle."""
