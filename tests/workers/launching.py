"""A launcher in a process of its own, to be killed: `python -m tests.workers.launching DATABASE STORE FOLDER`."""

from __future__ import annotations

import sys
import time
from pathlib import Path

from farm.db.session import connect
from farm.storage.blobs import open_store
from workers.launcher import Launcher, Terms, farm_id
from workers.places import LocalPlace


def main() -> None:
    database_url, store_url, folder = sys.argv[1], sys.argv[2], Path(sys.argv[3])
    place = LocalPlace(farm_id(database_url), folder / "logs")
    launcher = Launcher(
        connect(database_url, pool_size=2), open_store(store_url), place, Terms(corpus=folder / "corpus")
    )
    launcher.start()
    while True:
        time.sleep(0.5)
        launcher.wake()


if __name__ == "__main__":
    main()
