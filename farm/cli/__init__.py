"""The `dubfarm` command."""
