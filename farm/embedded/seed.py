"""`python -m farm.embedded.seed FOLDER`: the untrained bundle that a new farm starts with where none is shipped."""

from __future__ import annotations

import sys
from pathlib import Path

from farm.nets.bundle import seeded
from farm.nets.sizes import Sizes

NAME = "tiny-untrained"


def main() -> None:
    seeded(Path(sys.argv[1]), Sizes.tiny(), 0, NAME)


if __name__ == "__main__":
    main()
