"""Finding, following, cutting out and pasting back faces, in torch."""
