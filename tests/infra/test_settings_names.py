"""Every setting that a deployment's files and the pages about it name is one that there is."""

from __future__ import annotations

import re
from pathlib import Path

from farm import settings
from tests.infra import known_settings
from workers import places

ROOT = Path(__file__).resolve().parents[2]
NO_SETTINGS = {places.FARM, places.RUN, places.ATTEMPT, places.SUBMISSION}


def test_processes_read_the_groups_that_the_other_tests_believe() -> None:
    def made(*files: str) -> set[str]:
        return {name for file in files for name in re.findall(r"\b(\w+Settings)\(\)", (ROOT / file).read_text())}

    def believed(*processes: str) -> set[str]:
        return {group.__name__ for process in processes for group in known_settings.READ_BY[process]}

    assert made("api/__main__.py") == believed("api")
    assert made("workers/__main__.py", "workers/app.py") == believed("control", "worker")
    assert made("farm/cli/setup.py") == believed("setup")
    groups = {name for name in vars(settings) if name.endswith("Settings") and name != "BaseSettings"}
    assert groups == believed(*known_settings.READ_BY)


def test_no_file_names_a_setting_that_is_not_there() -> None:
    known = known_settings.of_all() | NO_SETTINGS
    files = [
        path
        for path in (ROOT / "infra").rglob("*")
        if path.suffix in (".yaml", ".example") or "Dockerfile" in path.name
    ]
    for path in [*files, ROOT / "README.md", ROOT / "docs" / "operations.md"]:
        for name in set(re.findall(r"\bDUBFARM_[A-Z0-9_]+", path.read_text())):
            assert name in known or (name.endswith("_") and any(k.startswith(name) for k in known)), (
                f"{path.name}: {name}"
            )
