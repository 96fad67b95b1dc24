"""Records: converts outcomes to bytes and back, without pickle."""
