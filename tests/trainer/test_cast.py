"""The cast: its parts, the discriminator, memory banks, the warm start; and priors that users must bring."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from farm.nets.style import style
from trainer.cast import EYE_DIMS, Bank, Cast, align_eyes, scale_code, warm_start
from trainer.discriminator import Discriminator
from trainer.prior_files import CARDS, EfficientNetLite0, Vgg19, open_prior, open_priors
from trainer.priors import PriorMissing, ReadOut
from trainer.recipes import Recipe


@pytest.fixture
def cast(recipe: Recipe) -> Cast:
    torch.manual_seed(0)
    return Cast(recipe).eval()


def test_heads_are_parts_of_the_motion_network(cast: Cast) -> None:
    x = torch.randn(2, 3, 64, 64)
    codes = cast.motion(x)
    for name, code in (("lip", codes.lip), ("eye", codes.eye), ("pose", codes.pose), ("expression", codes.expression)):
        assert torch.equal(cast.code(name, codes.unified), code)
    parts = [cast.part(name) for name in ("trunk", "lip", "eye", "pose", "expression")]
    counted = sum(p.numel() for part in parts for p in part.parameters())
    assert counted == sum(p.numel() for p in cast.motion.parameters())


def test_discriminator_has_the_official_size() -> None:
    count = sum(p.numel() for p in Discriminator().parameters())
    assert count == 5_527_682


def test_bank_keeps_the_latest_and_passes_gradient_to_the_batch_only() -> None:
    bank = Bank(5, 1, 1)
    for first in (0, 2, 4):
        batch = torch.tensor([[first], [first + 1]]).float()
        bank.add(batch, -batch)
    assert sorted(bank.expression.flatten().tolist()) == [1, 2, 3, 4, 5]
    fresh = torch.tensor([[9.0], [10.0]], requires_grad=True)
    expression, audio = bank.with_batch(fresh, -fresh.detach())
    assert expression.flatten().tolist() == [9, 10, 5, 4, 3]
    assert torch.equal(expression.detach(), -audio)
    expression.sum().backward()
    assert fresh.grad is not None


def test_warm_start_draws_what_stage_one_drew_where_the_codes_explain_the_feature(cast: Cast) -> None:
    sizes = cast.sizes
    count = sizes.lip + sizes.expression + sizes.eye + sizes.pose
    codes = torch.randn(400, count)
    unified = codes @ torch.randn(count, sizes.feature) / 8 + 0.3
    explained = warm_start(cast, codes, unified, ridge=1e-3)
    assert explained > 0.99
    appearance, map_ = cast.appearance(torch.randn(2, 3, 64, 64))
    lip, expression, eye, pose = codes[:2].split([sizes.lip, sizes.expression, sizes.eye, sizes.pose], 1)
    with torch.no_grad():
        before = cast.generator0_average(torch.cat([appearance, unified[:2]], 1), map_)
        after = cast.generator(style(appearance, lip, expression, eye, pose), map_)
    assert float((before - after).abs().mean()) < 0.02


def test_a_scaled_code_has_unit_variance_and_the_same_direction() -> None:
    layer = torch.nn.Linear(4, 3)
    x = torch.randn(64, 4) * 7
    before = layer(x).detach()
    scale_code(layer, before)
    after = layer(x).detach()
    assert float((after - after.mean(0)).square().mean()) == pytest.approx(1, rel=1e-3)
    assert float(torch.cosine_similarity(before, after).min()) == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize("size", [64, 96])
def test_read_out_reads_any_size_and_passes_gradient(size: int) -> None:
    x = torch.randn(2, 3, size, size, requires_grad=True)
    factors, features = ReadOut().read(x)
    assert factors.shape == (2, 16)
    assert len(features) == 11
    factors.sum().backward()
    assert x.grad is not None
    assert float(x.grad.abs().sum()) > 0


@pytest.mark.parametrize("name", CARDS)
def test_a_missing_prior_says_where_to_get_it(name: str, tmp_path: Path) -> None:
    with pytest.raises(PriorMissing, match="Get it from https://"):
        open_prior(name, tmp_path)


def test_a_wrong_prior_names_itself(tmp_path: Path) -> None:
    (tmp_path / "emoca.pt2").write_bytes(b"no")
    with pytest.raises(PriorMissing, match=r"emoca\.pt2 is not a torch\.export program"):
        open_prior("emoca", tmp_path)
    torch.save({"features.0.weight": torch.zeros(1)}, tmp_path / "vgg19.pth")
    with pytest.raises(PriorMissing, match=r"features\.0\.bias is missing"):
        open_prior("vgg19", tmp_path)
    with pytest.raises(PriorMissing, match="no prior 'vgg99'"):
        open_prior("vgg99", tmp_path)


def test_vgg19_takes_torchvisions_names(tmp_path: Path) -> None:
    network = Vgg19()
    torch.save({f"features.{key}": value for key, value in network.layers.state_dict().items()}, tmp_path / "vgg19.pth")
    seen = open_prior("vgg19", tmp_path).features(torch.zeros(1, 3, 32, 32))
    assert len(seen) == 13
    assert seen[-1].shape == (1, 512, 2, 2)


def test_every_missing_prior_is_named_at_once_and_landmarks_are_always_there(tmp_path: Path) -> None:
    with pytest.raises(PriorMissing, match=r"vgg19: no file.*l2cs: no file"):
        open_priors(["readout", "landmarks", "vgg19", "l2cs"], tmp_path)
    assert list(open_priors(["readout", "landmarks"], tmp_path)) == ["landmarks"]


def test_efficientnet_shows_the_ends_of_its_five_resolutions(tmp_path: Path) -> None:
    network = EfficientNetLite0()
    weights = {**network.state_dict(), "_fc.weight": torch.zeros(1)}
    torch.save(weights, tmp_path / "efficientnet_lite0.pth")
    picture = torch.zeros(1, 3, 64, 64, requires_grad=True)
    seen = EfficientNetLite0.from_file(tmp_path / "efficientnet_lite0.pth").features(picture)
    assert [tuple(x.shape[1:]) for x in seen] == [(16, 32, 32), (24, 16, 16), (40, 8, 8), (112, 4, 4), (320, 2, 2)]
    assert sum(x.sum() for x in seen).requires_grad  # type: ignore[union-attr]
    torch.save({"_conv_stem.weight": torch.zeros(1)}, tmp_path / "bad.pth")
    with pytest.raises(PriorMissing, match="is not EfficientNet-Lite0: _blocks"):
        EfficientNetLite0.from_file(tmp_path / "bad.pth")


def test_eyes_are_aligned_so_that_blink_and_gaze_lie_in_dims_of_their_own() -> None:
    torch.manual_seed(0)
    embedding, feature = torch.nn.Linear(12, 6), torch.randn(600, 12)
    code = embedding(feature).detach()
    told = torch.nn.functional.normalize(torch.linalg.qr(torch.randn(6, 6)).Q[:3], dim=1)
    read = (code - code.mean(0)) @ told.T + 0.02 * torch.randn(600, 3)
    align_eyes(embedding, code, read)
    turned = embedding(feature).detach()
    assert torch.allclose(turned.std(0), torch.ones(6), atol=0.05)
    likeness = torch.corrcoef(torch.cat([turned, read], 1).T)[:6, 6:]
    assert (likeness[EYE_DIMS].diagonal() > 0.97).all()
    assert likeness[[1, 4, 5]].abs().max() < 0.05
