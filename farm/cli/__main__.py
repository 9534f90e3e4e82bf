"""`python -m farm.cli`: the same as `dubfarm`."""

from farm.cli.app import main

if __name__ == "__main__":
    main()
