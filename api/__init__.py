"""The public HTTP API, v1: thin routes over farm.flow and farm.db. No torch."""
