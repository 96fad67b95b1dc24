"""What is known of the providers' prompt caches: the order of a prompt, its terms, and how a request asks for it."""
