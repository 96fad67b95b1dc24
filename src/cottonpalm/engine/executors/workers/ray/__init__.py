"""Workers on a Ray cluster, and what they share there: limits and money."""
