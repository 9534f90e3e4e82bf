from __future__ import annotations

import pytest

from farm.face.nets import FaceNets


@pytest.fixture(scope="session")
def nets() -> FaceNets:
    return FaceNets("cpu")
