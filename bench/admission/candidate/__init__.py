"""Rules of admission that are being tried, and the limiter that drives them; no run uses them."""
