"""The layers that act on a row's answer as a whole: fallback, re-ask, row retry."""
