"""Puppets: the known-factor corpus (PDFGC.md, section 5). Talking heads drawn by us, every factor known."""
