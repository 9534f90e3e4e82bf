"""The networks compute what the authors' do, through the importer (../../fixtures/pdfgc/networks.npz)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from farm.domain.factor import Factor
from farm.nets.bundle import Bundle
from farm.nets.encoders import ReadyAudio, ReadyMotion
from farm.nets.ready import in_pieces
from farm.nets.style import style
from farm.nets.synthesis import Synthesis

FIXTURE = Path(__file__).parents[2] / "fixtures" / "pdfgc" / "networks.npz"
FEATURES = (
    "app_vec",
    "app_map",
    "app_cls",
    "unified",
    "pose",
    "eye",
    "emo",
    "mouth512",
    "mouth500",
    "aud512",
    "aud500",
)


@pytest.fixture(scope="module")
def results(official_bundle: Bundle) -> dict[str, Tensor]:
    nets, gains = official_bundle.networks, official_bundle.gains
    assert gains[Factor.GAZE] == gains[Factor.BLINK]
    with torch.inference_mode():
        appearance, app_map = nets.appearance(_uniform(1, (2, 3, 224, 224), -1))
        codes = nets.motion(_uniform(2, (2, 3, 224, 224), -1))
        audio, lip = nets.audio(_uniform(3, (2, 1, 80, 20), 0))
        motion = ReadyMotion(nets.motion, official_bundle.sizes, torch.float32)
        assert motion.winograds == 20
        ready_codes = in_pieces(motion, motion.together)(_uniform(2, (2, 3, 224, 224), -1))
        ready_audio = ReadyAudio(nets.audio, torch.float32)(_uniform(3, (2, 1, 80, 20), 0))
        style_BD = style(
            appearance,
            lip * gains[Factor.LIP],
            codes.expression * gains[Factor.EXPRESSION],
            codes.eye * gains[Factor.GAZE],
            codes.pose * gains[Factor.POSE],
        )
        image = nets.generator(style_BD, app_map)
        synthesis = Synthesis(nets.generator, torch.float32, official_bundle.sizes.appearance)
        assert sum(layer.winograd is not None for layer in synthesis._layers) == 4
        rendered = [
            synthesis(style_BD[[row], appearance.shape[1] :], synthesis.prepare(appearance[[row]], app_map[[row]]))
            for row in range(2)
        ]
        ready = dict(zip(("unified", "pose", "eye", "emo", "mouth512", "mouth500"), ready_codes, strict=True))
        ready |= dict(zip(("aud512", "aud500"), ready_audio, strict=True))
        return {f"ready {name}": code for name, code in ready.items()} | {
            "app_vec": appearance,
            "app_map": app_map,
            "app_cls": nets.appearance.identity_logits(appearance)[:, :64],
            "unified": codes.unified,
            "pose": codes.pose,
            "eye": codes.eye,
            "emo": codes.expression,
            "mouth512": codes.lip512,
            "mouth500": codes.lip,
            "aud512": audio,
            "aud500": lip,
            "style": style_BD,
            "image": image,
            "rendered": torch.cat(rendered),
        }


@pytest.mark.parametrize("name", [*FEATURES, "style", *(f"ready {name}" for name in FEATURES[3:])])
def test_features_are_the_authors(results: dict[str, Tensor], name: str) -> None:
    expected = torch.from_numpy(np.load(FIXTURE)[name.removeprefix("ready ")])
    error = torch.linalg.vector_norm(results[name] - expected) / torch.linalg.vector_norm(expected)
    assert results[name].shape == expected.shape
    assert error <= 1e-4


@pytest.mark.parametrize("name", ["image", "rendered"])
def test_image_is_the_authors(results: dict[str, Tensor], name: str) -> None:
    fixture = np.load(FIXTURE)
    image = results[name]
    assert image.shape == (2, 3, 224, 224)
    assert (image[:, :, ::4, ::4] - torch.from_numpy(fixture["image_s4"])).abs().max() <= 1e-3
    sums = [image.double().sum().item(), image.double().abs().sum().item()]
    assert np.abs(np.array(sums) - fixture["image_sum"]).max() <= 1e-5 * image.numel()


def _uniform(seed: int, shape: tuple[int, ...], low: float) -> Tensor:
    return torch.from_numpy(np.random.RandomState(seed).uniform(low, 1, shape).astype(np.float32))
