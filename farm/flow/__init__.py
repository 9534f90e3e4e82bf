"""The verbs: one a file, one transaction each."""
