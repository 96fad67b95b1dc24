"""Money: a request's bound is reserved before the request is sent, and settled after it."""
