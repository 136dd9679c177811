"""How the paper and its peers measure: one protocol a file."""
