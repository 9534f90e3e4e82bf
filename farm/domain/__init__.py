"""The nouns: plain Python values and pure decisions. No I/O, no SQLAlchemy, no numpy, no clock, no dice."""
