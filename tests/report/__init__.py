"""What a run says of itself afterwards: advice, pages, what is kept."""
