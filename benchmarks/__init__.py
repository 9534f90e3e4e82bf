"""Measurements, run as `python -m benchmarks.NAME`. Nothing here is imported by the farm; no test asserts a time."""
