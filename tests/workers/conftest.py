from __future__ import annotations

from collections.abc import Iterator

import pytest

from farm.nets.bundle import manifest_sha256, seeded
from farm.nets.sizes import Sizes
from workers.studio import Studio
from workers.studio_setup import Setup
from workers.work import BundleFolder


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> BundleFolder:
    """An untrained bundle of the smallest networks."""
    folder = tmp_path_factory.mktemp("bundle") / "tiny"
    seeded(folder, Sizes.tiny(), 1, "tiny-test")
    return BundleFolder(folder, manifest_sha256(folder))


@pytest.fixture(scope="session")
def studio() -> Iterator[Studio]:
    studio = Studio(Setup("cpu", threads=1))
    yield studio
    studio.close()
