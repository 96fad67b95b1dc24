"""What concerns an answer as a whole: fallback, re-ask, row retry."""
