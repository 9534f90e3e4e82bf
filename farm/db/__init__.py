"""Rows and queries: the only package that speaks SQLAlchemy."""
