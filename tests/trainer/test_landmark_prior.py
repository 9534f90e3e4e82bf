"""The prior that is always there: what it reads of puppets, and gradients into the picture."""

from __future__ import annotations

import pytest
import torch

from farm.face.align import SIDE
from trainer.corpus import FACTORS, CorpusSetting, draw_clip, factor_slice
from trainer.landmark_prior import LandmarkPrior, measure


@pytest.fixture(scope="module")
def puppets() -> tuple[torch.Tensor, torch.Tensor]:
    """Pictures of four people, 12 each, half of them with factors drawn apart, and their true factors."""
    setting = CorpusSetting(128, 4, 0, frames=6, loose=6, seed=5)
    clips = [draw_clip(setting, number) for number in range(4)]
    pictures = torch.cat([torch.from_numpy(clip[0]) for clip in clips]).float() / 127.5 - 1
    return pictures, torch.cat([torch.from_numpy(clip[1]) for clip in clips])


def test_it_reads_heads_lids_and_jaws_of_drawn_people(puppets: tuple[torch.Tensor, torch.Tensor]) -> None:
    pictures, true = puppets
    with torch.no_grad():
        read, score = LandmarkPrior().read(pictures)
    assert score.min() > 0.9
    assert read.shape == true.shape
    for name, least in {"yaw": 0.95, "pitch": 0.7, "roll": 0.85, "x": 0.9, "blink": 0.7, "jaw": 0.6}.items():
        at = FACTORS.index(name)
        assert torch.corrcoef(torch.stack([read[:, at], true[:, at]]))[0, 1] > least, name
    units = read[:, factor_slice("pose")].std(0) / true[:, factor_slice("pose")].std(0)
    assert ((units > 0.4) & (units < 2.5)).all()


def test_what_is_measured_does_not_depend_on_how_the_head_is_turned() -> None:
    points = torch.randn(1, 478, 3, generator=torch.Generator().manual_seed(1)) * 20 + 112
    points[:, 454], points[:, 234] = torch.tensor([190.0, 110, 40]), torch.tensor([30.0, 110, 40])
    points[:, 263], points[:, 33] = torch.tensor([155.0, 80, 0]), torch.tensor([65.0, 80, 0])
    points[:, 362], points[:, 133] = torch.tensor([125.0, 80, 0]), torch.tensor([95.0, 80, 0])
    angle = torch.tensor(0.3)
    turn = torch.tensor([[angle.cos(), 0, angle.sin()], [0, 1, 0], [-angle.sin(), 0, angle.cos()]])
    straight, turned = measure(points)[0], measure((points - SIDE / 2) @ turn.T + SIDE / 2)[0]
    pose = factor_slice("pose")
    for i, name in enumerate(FACTORS):
        if not pose.start <= i < pose.stop:
            assert torch.isclose(straight[i], turned[i], atol=1e-3), name
    assert (straight - turned)[FACTORS.index("yaw")].abs() > 0.5


@pytest.mark.parametrize("name", ["yaw", "gaze_x", "blink", "jaw", "brow_raise"])
def test_gradients_into_the_picture_are_those_of_finite_differences(
    name: str, puppets: tuple[torch.Tensor, torch.Tensor]
) -> None:
    prior, at = LandmarkPrior(), FACTORS.index(name)
    picture = puppets[0][1:2].clone().requires_grad_(True)
    value = prior(picture)[0, at]
    (slope,) = torch.autograd.grad(value, picture)
    assert slope.abs().sum() > 0
    # Along the slope itself: whatever else wobbles is small beside it.
    way = slope / slope.norm()
    with torch.no_grad():
        step = 0.02
        change = (prior(picture + step * way)[0, at] - prior(picture - step * way)[0, at]) / (2 * step)
    assert change == pytest.approx(float(slope.norm()), rel=0.12)


def test_a_picture_is_read_the_same_at_any_size_and_in_any_batch(puppets: tuple[torch.Tensor, torch.Tensor]) -> None:
    prior = LandmarkPrior()
    with torch.no_grad():
        together = prior(puppets[0][:3])
        assert torch.allclose(torch.cat([prior(x[None]) for x in puppets[0][:3]]), together, atol=2e-3)
        large = torch.nn.functional.interpolate(puppets[0][:3], size=224, mode="bilinear", align_corners=False)
        assert (prior(large) - together).abs().mean() < 0.1
