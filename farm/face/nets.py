"""The face networks: finder (BlazeFace), 468-point mesh, iris. Apache-2.0 weights, see weights/NOTICE."""

from __future__ import annotations

import torch


class FaceNets:
    """All face networks on one device, in eval mode, without gradients to their weights (to their inputs: yes)."""

    def __init__(self, device: torch.device | str = "cpu") -> None:
        self.device = torch.device(device)
        raise NotImplementedError
