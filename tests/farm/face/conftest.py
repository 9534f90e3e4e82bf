from __future__ import annotations

import pytest
import torch

from farm.face.nets import FaceNets


@pytest.fixture(scope="session")
def nets() -> FaceNets:
    torch.set_num_threads(1)  # other tests may share the cores: two threads that wait for each other are far slower
    return FaceNets("cpu")
