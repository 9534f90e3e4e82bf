"""Bytes with a key: local folder or S3."""
