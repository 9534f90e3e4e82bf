from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from farm.errors import Rejected
from farm.face.graph import GraphNet
from farm.face.nets import FaceNets
from tests.farm.face.make_golden import NETWORKS, seeded_input

GOLDEN = Path(__file__).parent / "golden_nets.npz"


@pytest.mark.parametrize("name", list(NETWORKS))
def test_networks_agree_with_tflite(nets: FaceNets, name: str) -> None:
    golden = np.load(GOLDEN)
    net = {"finder_near": nets.near, "finder_far": nets.far, "mesh": nets.mesh, "iris": nets.iris}[name]
    x_B3HW = torch.from_numpy(seeded_input(net.size, 7)).permute(0, 3, 1, 2)
    for number, output in enumerate(net(x_B3HW)):
        for case in range(2):
            value = output[case].reshape(-1).numpy()
            expected = golden[f"{name}.{case}.{number}"]
            value = value[:: max(1, value.size // 1500)]
            np.testing.assert_allclose(value, expected, rtol=1e-5, atol=1e-5 * np.abs(expected).max() + 1e-5)


def test_gradients_reach_the_picture_and_not_the_weights(nets: FaceNets) -> None:
    x_B3HW = torch.rand(1, 3, 192, 192, requires_grad=True)
    points, _ = nets.mesh(x_B3HW)
    points.square().sum().backward()
    assert x_B3HW.grad is not None
    assert float(x_B3HW.grad.abs().sum()) > 0
    assert not list(nets.mesh.parameters())


def test_a_missing_weights_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(Rejected, match=r"face_weights_missing.*mesh\.safetensors"):
        GraphNet(tmp_path / "mesh.safetensors")
