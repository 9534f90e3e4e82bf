"""Each loss against its equation, written out by hand."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from trainer import losses


def test_motion_is_the_root_mean_square_distance_of_features() -> None:
    a, b = torch.zeros(2, 4), torch.tensor([[1.0, 1, 1, 1], [2, 2, 2, 2]])
    assert float(losses.motion([a], [b])) == pytest.approx(1.5, abs=1e-4)


def test_info_nce_is_the_cross_entropy_of_cosines_over_the_candidates_of_a_clip() -> None:
    dice = torch.Generator().manual_seed(1)
    a, b = torch.randn(3, 5, 7, generator=dice), torch.randn(3, 5, 7, generator=dice)
    slow = []
    for clip in range(3):
        for n in range(5):
            cosines = [float(torch.cosine_similarity(a[clip, n], b[clip, m], 0)) / 0.1 for m in range(5)]
            slow.append(-cosines[n] + math.log(sum(math.exp(c) for c in cosines)))
    assert float(losses.info_nce(a, b, 0.1)) == pytest.approx(sum(slow) / len(slow), rel=1e-4)
    assert float(losses.info_nce(a, a, 0.01)) < 1e-3


def test_eye_contrast_falls_when_the_anchor_turns_to_the_positive() -> None:
    x, y = torch.eye(4)[:2], torch.eye(4)[2:]
    assert float(losses.eye_contrast(x, x, y, 0.1)) < 1e-3 < 5 < float(losses.eye_contrast(y, x, y, 0.1))


def test_decorrelation_is_the_mean_squared_pearson_correlation() -> None:
    dice = torch.Generator().manual_seed(2)
    x, y = torch.randn(50, 3, generator=dice), torch.randn(50, 4, generator=dice)
    both = torch.corrcoef(torch.cat([x, y], 1).T)[:3, 3:]
    assert float(losses.decorrelation(x, y)) == pytest.approx(float(both.square().mean()), rel=1e-3)
    assert float(losses.decorrelation(x[:, :1], 2 * x[:, :1] + 1)) == pytest.approx(1, abs=1e-3)


def test_lip_sync_is_between_one_over_e_and_e() -> None:
    x = torch.randn(4, 6)
    assert float(losses.lip_sync(x, 3 * x)) == pytest.approx(1 / math.e, rel=1e-4)
    assert float(losses.lip_sync(x, -x)) == pytest.approx(math.e, rel=1e-4)


def test_hinge_and_adversarial() -> None:
    scores = [torch.tensor([2.0, -2.0])]
    assert float(losses.hinge_real(scores)) == 1.5
    assert float(losses.hinge_fake(scores)) == 1.5
    assert float(losses.adversarial(scores)) == 0


def test_perceptual_pose_gaze_and_image_are_means_of_absolute_differences() -> None:
    a, b = torch.zeros(2, 3, 8, 8), torch.full((2, 3, 8, 8), 0.5)
    assert float(losses.perceptual([a, a], [b, a])) == 0.25
    for loss in (losses.pose, losses.gaze, losses.image):
        assert float(loss(a, b)) == 0.5
    assert float(losses.pyramid(a, b)) == pytest.approx(1.0)
    assert float(losses.regions(a, b)) == pytest.approx(0.5)


def test_figures() -> None:
    true = torch.randn(100, 2)
    assert losses.r_squared(true, true).tolist() == [1, 1]
    assert losses.r_squared(true.mean(0).expand(100, 2), true).tolist() == pytest.approx([0, 0], abs=1e-5)
    assert float(losses.psnr(torch.zeros(1, 3, 4, 4), torch.full((1, 3, 4, 4), 0.2))) == pytest.approx(20, abs=1e-3)
    assert float(losses.correlation(true[:, 0], 5 - true[:, 0])) == pytest.approx(-1)


def _doubles(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(sum(shape)))


@pytest.mark.parametrize(
    ("loss", "given"),
    [
        (lambda a, b: losses.motion([a], [b]), (_doubles(3, 4), _doubles(3, 4) + 1)),
        (lambda a, b: losses.info_nce(a, b, 0.5), (_doubles(2, 3, 4), _doubles(2, 3, 4))),
        (lambda a, b, c: losses.eye_contrast(a, b, c, 0.5), (_doubles(3, 4), _doubles(3, 4), _doubles(3, 4) + 1)),
        (losses.pose, (_doubles(3, 6), _doubles(3, 6) + 3)),
        (losses.decorrelation, (_doubles(8, 3), _doubles(8, 4))),
        (lambda a, b: losses.perceptual([a], [b]), (_doubles(2, 3), _doubles(2, 3) + 9)),
        (losses.lip_sync, (_doubles(3, 4), _doubles(3, 4) + 1)),
        (losses.gaze, (_doubles(3, 2), _doubles(3, 2) + 9)),
        (losses.pyramid, (_doubles(1, 3, 4, 4), _doubles(1, 3, 4, 4) + 9)),
        (lambda a: losses.hinge_real([a]), (_doubles(5) + 9,)),
        (lambda a: losses.hinge_fake([a]), (_doubles(5),)),
        (lambda a: losses.adversarial([a]), (_doubles(5),)),
        (losses.distillation, (_doubles(3, 4), _doubles(3, 4) + 1)),
    ],
)
def test_gradients_are_those_of_finite_differences(loss: Any, given: tuple[torch.Tensor, ...]) -> None:
    assert torch.autograd.gradcheck(loss, tuple(x.clone().requires_grad_(True) for x in given))
