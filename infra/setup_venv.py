"""Create the virtual environment and install Dubfarm into it with pinned versions: `setup_venv.py DIR EXTRA`."""

from __future__ import annotations

import subprocess
import sys
import venv
from pathlib import Path


def main() -> None:
    folder, extra = Path(sys.argv[1]), sys.argv[2]
    if sys.version_info < (3, 11):  # noqa: UP036 - this script runs before the requirement is checked
        sys.exit(f"Dubfarm needs Python 3.11 or newer; this is {sys.version.split()[0]} (make PYTHON=python3.11 …)")
    python = folder / "bin" / "python"
    if not python.exists():
        print(f"creating {folder}", flush=True)
        venv.create(folder, with_pip=True)
    print(f"installing dubfarm[{extra}] (a few minutes the first time)", flush=True)
    install = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*install, "-c", "constraints.txt", "-e", f".[{extra}]"], check=True)
    (folder / f".{extra}").touch()


if __name__ == "__main__":
    main()
