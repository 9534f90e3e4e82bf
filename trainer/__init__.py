"""Progressive training of PD-FGC (not built yet: the recipes, stages and loop land here)."""
