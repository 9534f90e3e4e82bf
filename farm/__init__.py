"""Dubfarm: the open-source render farm for visual dubbing with PD-FGC (CVPR 2023)."""

__version__ = "0.1.0"
