"""Celery workers: claim a chunk, render it in a spawned child, settle it."""
