"""The corpus: pure functions of numbers, cropped and heard as the farm crops and hears; the sampler's order."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import torch

from farm.face.align import ANCHORS, SIDE
from farm.media import mel
from trainer import corpus as corpus_module
from trainer.corpus import FACTORS, SHARD, Corpus, CorpusSetting, draw_clip, factor_slice, open_corpus
from trainer.puppets.framing import anchors, picture_from_crop, pose_in_crop
from trainer.puppets.parameters import COLUMN, identity
from trainer.puppets.render import render
from trainer.sampler import choose, choose_several, step_seed, uniforms


def test_clips_are_pure_functions_of_their_numbers(corpus: Corpus, corpus_folder: Path) -> None:
    pictures, factors, strip = draw_clip(corpus.setting, 3)
    assert np.array_equal(corpus.train.pictures[3].numpy(), pictures)
    assert np.array_equal(corpus.train.factors[3].numpy(), factors)
    assert np.array_equal(corpus.train.strip[3].numpy(), strip)
    again = open_corpus(corpus_folder, corpus.setting)
    assert torch.equal(again.held_out.pictures, corpus.held_out.pictures)
    assert (len(corpus.train), len(corpus.held_out)) == (5, 2)
    assert not list(corpus_folder.rglob("*.tmp"))
    assert len(list(corpus_folder.rglob("*.npz"))) == -(-7 // SHARD)


def test_every_factor_moves_and_loose_frames_are_wider(corpus: Corpus) -> None:
    spread = corpus.train.factors.flatten(0, 1).std(0)
    assert len(FACTORS) == 16
    assert (spread > 0.05).all()
    lively, loose = corpus.train.factors[:, :12], corpus.train.factors[:, 12:]
    at = factor_slice("expression")
    assert loose[..., at].flatten(0, 1).std(0).mean() > lively[..., at].std(1).mean()


def test_windows_are_those_that_the_farm_cuts() -> None:
    setting = CorpusSetting(64, 1, 0, frames=10, loose=1)
    dice = np.random.default_rng(0)
    wave = dice.standard_normal(16000).astype(np.float32) * 0.1
    strip = corpus_module._strip(wave, 3, setting.frames)
    for frame in range(setting.frames):
        start = mel.window_start(Fraction(3 + frame, 25))
        low, high = mel.stretch([start])
        samples = np.zeros(high - low, np.float32)
        begin, end = max(low, 0), min(high, wave.size)
        samples[begin - low : end - low] = wave[begin:end]
        expected = mel.windows(samples, low, [start], mel.rms(wave))[0, 0]
        assert np.array_equal(strip[:, 4 * frame : 4 * frame + 20], expected)


def test_the_crop_brings_a_puppets_anchors_to_their_places() -> None:
    rows = torch.stack([identity(seed) for seed in range(6)])
    rows[:, COLUMN["yaw"]], rows[:, COLUMN["roll"]] = torch.linspace(-0.4, 0.4, 6), torch.linspace(0.8, -0.8, 6)
    rows[:, COLUMN["shift_x"]], rows[:, COLUMN["scale"]] = torch.linspace(-1, 1, 6), torch.linspace(1, -1, 6)
    place = picture_from_crop(rows, np.arange(6, dtype=np.int32), torch.zeros(6, 4))
    wanted = torch.from_numpy((ANCHORS + 0.5) * 2 / SIDE - 1).float()
    back = torch.linalg.solve(place[:, None, :, :2], (anchors(rows) - place[:, None, :, 2])[..., None])[..., 0]
    # A similarity cannot fit three points of every face; the middle of the face it can.
    assert torch.allclose(back.mean(1), wanted.mean(0).expand(6, 2), atol=0.01)
    assert (back - wanted).abs().max() < 0.2
    pose = pose_in_crop(rows, place)
    assert pose[:, 2].abs().max() < 1.5  # the crop takes the roll out
    assert pose[:, :1].std() > 0.3


def test_drawing_a_crop_is_drawing_and_cropping() -> None:
    row = identity(4)[None]
    half = torch.tensor([[[0.5, 0.0, 0.0], [0.0, 0.5, 0.0]]])
    crop, whole = render(row, 64, 4, half)[0], render(row, 128)[0]
    middle = whole[:, 32:96, 32:96]
    assert float((crop - middle).abs().mean()) < 0.01


def test_dice_follow_from_the_samples_number_alone() -> None:
    together = uniforms(7, 0, 10, 5)
    apart = torch.cat([uniforms(7, 0, 3, 5), uniforms(7, 3, 7, 5)])
    assert torch.equal(together, apart)
    assert not torch.equal(together, uniforms(8, 0, 10, 5))
    assert 0 <= float(together.min()) <= float(together.max()) < 1
    assert choose(torch.tensor([0.0, 0.5, 0.999999]), 4).tolist() == [0, 2, 3]
    several = choose_several(uniforms(1, 0, 6, 9), 4)
    assert all(len(set(row.tolist())) == 4 for row in several)
    assert step_seed(1, 2) != step_seed(1, 3) != step_seed(2, 3)
