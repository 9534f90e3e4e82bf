from __future__ import annotations

import pytest
import torch

from farm.face.nets import FaceNets


@pytest.fixture(scope="session")
def nets() -> FaceNets:
    torch.set_num_threads(2)
    return FaceNets("cpu")
