"""One model request: what it waits for, how it is sent, judged, tried again and settled."""
