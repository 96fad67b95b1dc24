"""Pages that are written by the program itself: `python -m docs.tools` writes them anew."""
