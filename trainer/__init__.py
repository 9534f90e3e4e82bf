"""Progressive training of PD-FGC (Wang et al. 2023): recipes, stages as data, one loop. `python -m trainer --help`."""
