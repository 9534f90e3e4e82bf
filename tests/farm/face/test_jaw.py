"""The jaw of a generated face: seen lower as it opens, in crop pixels whatever the square's size; the same bits in any
slot-true batch."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from farm.face.jaw import jaw
from farm.face.nets import FaceNets
from farm.nets.slots import run_in_slots
from trainer.puppets.framing import picture_from_crop
from trainer.puppets.parameters import COLUMN, identity
from trainer.puppets.render import render


def squares(opened: list[float], size: int = 224) -> torch.Tensor:
    """A puppet in the square of its own closed mouth."""
    rows = torch.stack([identity(7)] * len(opened))
    rows[:, COLUMN["jaw"]] = 0
    place = picture_from_crop(rows, np.zeros(len(rows), np.int32), torch.zeros(len(rows), 4))
    rows[:, COLUMN["jaw"]] = torch.tensor(opened)
    return F.interpolate(render(rows, 224, 4, place), (size, size), mode="bilinear", antialias=True)


@pytest.mark.parametrize("size", [64, 224])
def test_an_open_jaw_lies_lower(nets: FaceNets, size: int) -> None:
    found = jaw(nets, squares([0.0, 0.5, 1.0], size))
    chin = found[..., 1].amax(1)
    assert float(chin[1] - chin[0]) > 4
    assert float(chin[2] - chin[1]) > 4
    assert 160 < float(chin[0]) < 185
    assert float((found[..., 0].mean(1) - 112).abs().max()) < 4


def test_what_is_no_face_has_no_jaw(nets: FaceNets) -> None:
    assert torch.isnan(jaw(nets, torch.zeros(2, 3, 64, 64))).all()


def test_a_square_does_not_know_its_chunk(nets: FaceNets) -> None:
    seen = squares([0.1 * k for k in range(6)], 64)

    def look(image_B3SS: torch.Tensor) -> tuple[torch.Tensor]:
        return (jaw(nets, image_B3SS),)

    (whole,) = run_in_slots(look, range(6), seen, 4)
    (part,) = run_in_slots(look, [3, 4], seen[3:5], 4)
    assert torch.equal(part, whole[3:5])
