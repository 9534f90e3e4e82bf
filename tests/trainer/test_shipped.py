"""The bundle that ships: whole, small, honest about itself, and its lips, and little else, follow the voice."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

import farm.nets
from farm.nets import bundle
from farm.nets.style import style
from trainer import losses
from trainer.corpus import CorpusSetting, open_corpus
from trainer.losses import box

SHIPPED = sorted(path.parent for path in (Path(farm.nets.__file__).parent / "shipped").glob("*/manifest.json"))


@pytest.mark.parametrize("folder", SHIPPED, ids=lambda folder: folder.name)
def test_shipped_bundle_says_what_it_is(folder: Path) -> None:
    manifest = bundle.load(folder, torch.device("cpu")).manifest
    assert (manifest.trained, manifest.name, manifest.licence) == (True, folder.name, "Apache-2.0")
    assert "puppets only" in manifest.source
    assert sum(path.stat().st_size for path in folder.iterdir()) < 25 * 2**20
    for name in ("recipe", "curves", "evaluation"):
        assert json.loads((folder / f"{name}.json").read_text())


@pytest.mark.parametrize("folder", SHIPPED, ids=lambda folder: folder.name)
def test_lips_follow_the_voice_of_people_and_voices_never_seen(folder: Path, tmp_path: Path) -> None:
    """All codes but the lips' are held: what then moves the mouth most goes with the true jaw, at its own time."""
    loaded = bundle.load(folder, torch.device("cpu"))
    # Another seed: other people, other sentences, and, all being held out, voices that no training heard.
    setting = CorpusSetting(loaded.sizes.image, clips=0, held_out=8, frames=40, loose=1, seed=99)
    clips = open_corpus(tmp_path, setting).held_out
    frames = torch.arange(setting.frames)
    in_time, off_time = [], []
    with torch.no_grad():
        for clip in range(len(clips)):
            at = torch.full_like(frames, clip)
            appearance, map_ = loaded.appearance(clips.picture(at[:1], frames[-1:] + 1))
            codes = loaded.motion(clips.picture(at[:1], frames[:1]))
            held = [code.expand(len(frames), -1) for code in (codes.expression, codes.eye, codes.pose)]
            pictures = loaded.generator(style(appearance, loaded.audio(clips.window(at, frames))[1], *held), map_)
            mouth = box(pictures, "mouth").flatten(1)
            moves = torch.linalg.svd(mouth - mouth.mean(0), full_matrices=False)[0][:, 0]
            jaw = clips.factors[clip, frames, 0]
            in_time.append(losses.correlation(moves, jaw).abs())
            off_time += [losses.correlation(moves[shift:], jaw[:-shift]).abs() for shift in (5, 8)]
            off_time += [losses.correlation(moves[:-shift], jaw[shift:]).abs() for shift in (5, 8)]
    assert torch.stack(in_time).mean() > 0.5
    assert torch.stack(in_time).mean() > 2 * torch.stack(off_time).mean()
