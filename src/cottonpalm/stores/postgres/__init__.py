"""The store in a Postgres database."""
