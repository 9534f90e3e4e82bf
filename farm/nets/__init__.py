"""The PD-FGC networks and their bundles, for one device."""
