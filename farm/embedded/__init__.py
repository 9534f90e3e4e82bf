"""The one-machine farm: Postgres, Valkey, API and workers as child processes of one command."""
