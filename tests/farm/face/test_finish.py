"""Grain and sharpness as the source has them: measured right, bounded, and of the frame alone."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from farm.face import finish

CPU = torch.device("cpu")


def picture(rows: int = 240, columns: int = 200) -> torch.Tensor:
    """Gradients, a straight edge and a disc."""
    y, x = torch.meshgrid(torch.arange(rows).float(), torch.arange(columns).float(), indexing="ij")
    disc = ((y - 100) ** 2 + (x - 90) ** 2 < 50**2).float()
    return 60 + 0.3 * x + 0.2 * y + 30 * (x > 140) + 40 * disc


@pytest.mark.parametrize("deviation", [0.8, 1.5, 3.0, 5.0])
@pytest.mark.parametrize("bit_depth", [8, 10])
def test_grain_is_measured(deviation: float, bit_depth: int) -> None:
    unit = 2 ** (bit_depth - 8)
    noise = torch.randn(240, 200, generator=torch.Generator().manual_seed(3))
    noisy = ((picture() + deviation * noise) * unit).round().to(torch.int16)
    assert finish.grain(noisy, bit_depth) / unit == pytest.approx(deviation, rel=0.15)


def test_a_clean_picture_has_no_grain_and_a_torn_one_not_without_end() -> None:
    clean = picture().to(torch.uint8)
    assert finish.grain(clean[:, :80], 8) == 0
    assert finish.grain((clean.float() + 40 * torch.randn(240, 200)).clamp(0, 255).to(torch.uint8), 8) == 6
    assert finish.grain(clean[:10], 8) == 0


def test_the_field_of_a_frame_is_the_same_wherever_it_is_cut_and_another_in_every_frame() -> None:
    whole = finish.noise(7, 0, 0, 700, 600, CPU)
    assert torch.equal(finish.noise(7, 300, 520, 90, 70, CPU), whole[300:390, 520:590])
    assert float(whole.std()) == pytest.approx(1, abs=0.05)
    fields = torch.stack([finish.noise(k, 40, 60, 200, 200, CPU).flatten() for k in range(12)])
    alike = torch.corrcoef(fields) - torch.eye(12)
    assert float(alike.abs().max()) < 0.03


def squares(size: int, seed: int = 1) -> torch.Tensor:
    rough = torch.rand(2, 3, size // 4, size // 4, generator=torch.Generator().manual_seed(seed))
    return F.interpolate(rough, size=(size, size), mode="bicubic", align_corners=False).clamp(0, 1)


LUMA = (0.2126, 0.7152, 0.0722)


def luma(rgb_B3SS: torch.Tensor) -> torch.Tensor:
    return sum(rgb_B3SS[:, k : k + 1] * share for k, share in enumerate(LUMA))  # pyright: ignore[reportReturnType]


INSIDE = torch.ones(2, 1, 112, 112)


@pytest.mark.parametrize("size", [64, 112, 224])
def test_a_soft_picture_is_sharpened_towards_the_source_and_never_rings(size: int) -> None:
    source = squares(112)
    soft = F.avg_pool2d(F.interpolate(source, size=(size, size), mode="bilinear"), 3, 1, 1, count_include_pad=False)
    made = finish.sharpened(soft, luma(source), INSIDE, LUMA)
    wanted = F.interpolate(source, size=(size, size), mode="bilinear")
    assert float((made - wanted).abs().mean()) < float((soft - wanted).abs().mean())
    assert bool((made <= F.max_pool2d(soft, 3, 1, 1) + 0.0201).all())
    assert bool((made >= -F.max_pool2d(-soft, 3, 1, 1) - 0.0201).all())


def test_a_picture_as_sharp_as_the_source_is_left_alone() -> None:
    sharp = squares(112)
    soft = F.avg_pool2d(sharp, 5, 1, 2, count_include_pad=False)
    assert torch.equal(finish.sharpened(sharp, luma(soft), INSIDE, LUMA), sharp)
    assert torch.allclose(finish.sharpened(sharp, luma(sharp), INSIDE, LUMA), sharp)


def test_each_square_is_judged_alone() -> None:
    source, soft = squares(112), F.avg_pool2d(squares(112), 3, 1, 1)
    both = finish.sharpened(soft, luma(source), INSIDE, LUMA)
    assert torch.equal(finish.sharpened(soft[1:], luma(source[1:]), INSIDE[1:], LUMA), both[1:])
