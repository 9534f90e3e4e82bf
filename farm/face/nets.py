"""The face networks: finders (BlazeFace), 468-point mesh, iris. Apache-2.0 weights, see weights/NOTICE.txt."""

from __future__ import annotations

from pathlib import Path

import torch

from farm.face.graph import GraphNet

WEIGHTS = Path(__file__).parent / "weights"


class FaceNets:
    """All face networks on one device, in eval mode, float32. Gradients flow to inputs, never to the weights.

    far: x_B3,192,192 in [-1, 1] -> (boxes_B,2304,16, logits_B,2304,1); faces of 1/20 to about 3/4 of the picture.
    near: x_B3,128,128 in [-1, 1] -> (boxes_B,896,16, logits_B,896,1); faces of 1/6 to the whole picture.
    mesh: x_B3,192,192 in [0, 1] -> (points_B,1,1,1404 as pixels of the input, face logit_B,1,1,1).
    iris: x_B3,64,64 in [0, 1], a picture-left eye -> (71 contour points_B,213, 5 iris points_B,15), pixels.
    """

    def __init__(self, device: torch.device | str = "cpu") -> None:
        self.device = torch.device(device)
        self.far = self._load("finder_far")
        self.near = self._load("finder_near")
        self.mesh = self._load("mesh")
        self.iris = self._load("iris")

    def _load(self, name: str) -> GraphNet:
        return GraphNet(WEIGHTS / f"{name}.safetensors").to(self.device).eval()
