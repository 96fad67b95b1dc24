"""What the stores in SQL databases share: tables, rows, writer, reader. `database` is the seam between them."""
