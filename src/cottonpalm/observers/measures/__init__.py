"""What a run measures, in bounded memory however many rows it has. Pure."""
