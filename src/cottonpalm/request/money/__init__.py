"""Money: what is booked before a request is sent, and settled after it."""
