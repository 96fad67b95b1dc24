"""What the command says to people: messages, tables, the summary, errors."""
