"""The judge: reads true factors off pictures, and is nobody's prior: `python -m trainer.readout`.

Another seed, other puppets, another width and other wear than the read-out that a training learns from. Its weights lie
in trainer/evaluator with a card: how well it reads people that it never saw. Tables print that card beside them.

B pictures, F factors in FACTORS' order, S pixels a side.
"""

from __future__ import annotations

import argparse
import copy
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Final

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor

from trainer.augment import DICE, Augmentation, augment
from trainer.corpus import FACTOR_GROUPS, FACTORS, RENDERED, Clips, CorpusSetting, open_corpus, shown
from trainer.losses import r_squared
from trainer.priors import ReadOut
from trainer.sampler import choose, uniforms

FOLDER: Final = Path(__file__).parent / "evaluator"
WEIGHTS, CARD = "readout.safetensors", "readout.json"
WIDTH, HIDDEN, SEED = 24, 96, 5
CORPUS: Final = CorpusSetting(64, 1500, 96, frames=12, loose=24, seed=SEED)
WEAR: Final = Augmentation(
    scale=0.0, scale_probability=0.0, brightness=0.3, offset=0.2, contrast=0.3, saturation=0.4, hue=0.2, noise=0.08
)
"""Nothing that moves or scales the face: that would make the labels wrong."""
_BATCH: Final = 128
_LOOSE_SHARE: Final = 0.6


@dataclass(frozen=True)
class Judge:
    """A trained read-out with the units that it was trained in, and its card."""

    network: ReadOut
    mean_F: Tensor
    deviation_F: Tensor
    card: Mapping[str, Any]
    name: str = "puppet read-out"
    groups: Mapping[str, tuple[str, ...]] = field(default_factory=lambda: FACTOR_GROUPS)
    mouth: tuple[str, ...] = ("jaw", "lip_width", "pucker")

    @property
    def names(self) -> tuple[str, ...]:
        return FACTORS

    @torch.no_grad()
    def read(self, x_B3SS: Tensor) -> Tensor:
        """factors_BF as the corpus states them, of pictures in [-1, 1] of any size."""
        parts = [self.network(part) for part in x_B3SS.split(_BATCH)]
        return torch.cat(parts) * self.deviation_F + self.mean_F

    def shown(self, factors_BF: Tensor) -> Tensor:
        return shown(factors_BF)

    @torch.no_grad()
    def features(self, x_B3SS: Tensor) -> Tensor:
        """What the network makes of pictures before it names factors, (B, 3 * HIDDEN)."""
        return torch.cat([_hidden(self.network, part) for part in x_B3SS.split(_BATCH)])


@cache
def load(folder: Path = FOLDER) -> Judge:
    """The judge as it was trained. Raises FileNotFoundError where its weights are not there."""
    weights = {name: value.float() for name, value in load_file(folder / WEIGHTS).items()}
    card = json.loads((folder / CARD).read_text())
    network = ReadOut(card["width"], card["hidden"])
    mean_F, deviation_F = weights.pop("mean"), weights.pop("deviation")
    found = network.load_state_dict(weights, strict=False)
    odd = [*found.unexpected_keys, *(key for key in found.missing_keys if "num_batches" not in key)]
    if odd:
        raise ValueError(
            f"{folder / WEIGHTS} is of another read-out ({odd[0]}): train it anew, python -m trainer.readout"
        )
    return Judge(_settled(network), mean_F, deviation_F, card)


def _settled(network: ReadOut) -> ReadOut:
    network.eval().requires_grad_(False)
    network.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    return network


def _hidden(network: ReadOut, x_B3SS: Tensor) -> Tensor:
    """The layer before each head's last."""
    kept: list[Tensor] = []
    heads = [network.to_pose, network.to_eyes, network.to_mouth]
    hooks = [head[1].register_forward_hook(lambda _module, _given, out: kept.append(out)) for head in heads]  # pyright: ignore
    try:
        network(x_B3SS)
    finally:
        for hook in hooks:
            hook.remove()
    return torch.cat(kept, 1)


def worn(x_B3SS: Tensor, dice_BD: Tensor) -> Tensor:
    """Pictures as generators make them: half of them with other colours and grain, half of them soft."""
    changed = augment(x_B3SS, dice_BD[:, :DICE], WEAR)
    x = torch.where((dice_BD[:, DICE] < 0.5)[:, None, None, None], changed, x_B3SS)
    half = F.interpolate(F.avg_pool2d(x, 2), scale_factor=2, mode="bilinear", align_corners=False)
    # From sharp to as soft as half the pixels.
    share = (2 * dice_BD[:, DICE + 1] - 1).clamp_min(0)[:, None, None, None]
    return torch.lerp(x, half, share).contiguous(memory_format=torch.channels_last)


def train(
    train_on: Clips,
    held_out: Clips,
    steps: int,
    batch: int = 32,
    rate: float = 1.5e-3,
    told: Callable[[Judge], None] = lambda _: None,
    begin: Judge | None = None,
) -> Judge:
    """Squared error of factors in units of their deviation, where they show; the rate fades to nothing, and what is
    kept is the moving average. told: called with the judge so far every 250 steps. begin: go on from this one."""
    torch.manual_seed(SEED)
    flat = train_on.factors.flatten(0, 1)
    mean_F, deviation_F = flat.mean(0), flat.std(0) + 1e-4
    network = ReadOut(WIDTH, HIDDEN).to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    before = 0
    if begin is not None:
        network.load_state_dict(begin.network.state_dict())
        before = begin.card["steps"]
    optimiser = torch.optim.AdamW(network.parameters(), lr=rate, betas=(0.9, 0.99), weight_decay=1e-3)
    average = copy.deepcopy(network)
    running, judge = 0.0, Judge(network, mean_F, deviation_F, {})
    for step in range(steps):
        fade = 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * step / steps))
        for group in optimiser.param_groups:
            group["lr"] = rate * fade * min(1.0, (step + 1) / 50)
        dice = uniforms(SEED, (before + step) * batch, batch, 5 + DICE)
        clip = choose(dice[:, 0], len(train_on))
        loose = train_on.frames + choose(dice[:, 1], train_on.factors.shape[1] - train_on.frames)
        frame = torch.where(dice[:, 2] < _LOOSE_SHARE, loose, choose(dice[:, 1], train_on.frames))
        factors = train_on.factors[clip, frame]
        read = network(worn(train_on.picture(clip, frame), dice[:, 3:]))
        error = (read - (factors - mean_F) / deviation_F).square() * shown(factors)
        optimiser.zero_grad(set_to_none=True)
        error.mean().backward()
        optimiser.step()
        _follow(average, network, min(0.99, (1 + step) / (10 + step)))
        running += 0.02 * (float(error.mean().detach()) - running)
        if (step + 1) % 250 == 0 or step + 1 == steps:
            card = {"seed": SEED, "width": WIDTH, "hidden": HIDDEN, "steps": before + step + 1, "batch": batch}
            judge = Judge(_settled(average), mean_F, deviation_F, card)
            print(f"step {step + 1}: loss {running:.4f}, held out {_brief(held_out_r2(judge, held_out))}", flush=True)
            told(judge)
    return judge


@torch.no_grad()
def _follow(average: ReadOut, network: ReadOut, keep: float) -> None:
    for kept, fresh in zip(average.state_dict().values(), network.state_dict().values(), strict=True):
        if kept.is_floating_point():
            kept.lerp_(fresh, 1 - keep)


def held_out_r2(judge: Judge, clips: Clips) -> dict[str, dict[str, float]]:
    """R^2 by factor on these people: of frames as in life, and of frames whose factors are drawn apart."""
    result = {}
    for name, frames in (("life", range(clips.frames)), ("apart", range(clips.frames, clips.factors.shape[1]))):
        true = clips.factors[:, list(frames)].flatten(0, 1)
        clip = torch.arange(len(clips)).repeat_interleave(len(frames))
        read = judge.read(clips.picture(clip, torch.tensor(list(frames)).repeat(len(clips))))
        result[name] = r2_where_shown(read, true)
    return result


def r2_where_shown(read_NF: Tensor, true_NF: Tensor) -> dict[str, float]:
    """Share of each factor's variance that is read, over the frames that show it."""
    seen = shown(true_NF)
    values = {}
    for column, name in enumerate(FACTORS):
        here = seen[:, column]
        values[name] = round(float(r_squared(read_NF[here, column, None], true_NF[here, column, None])), 4)
    return values


def save(folder: Path, judge: Judge, held_out: Clips) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    weights = {**judge.network.state_dict(), "mean": judge.mean_F, "deviation": judge.deviation_F}
    small = {name: _small(value) for name, value in weights.items() if "num_batches" not in name}
    save_file(small, folder / WEIGHTS)
    load.cache_clear()
    (folder / CARD).write_text(json.dumps(judge.card) + "\n")
    card = {
        **judge.card,
        "corpus": asdict(CORPUS),
        "held_out_identities": len(held_out),
        # Of the rounded weights, as they are shipped.
        "r2": held_out_r2(load(folder), held_out),
    }
    load.cache_clear()
    (folder / CARD).write_text(json.dumps(card, indent=2) + "\n")


def _small(value: Tensor) -> Tensor:
    return value.half().contiguous()


def _brief(r2: dict[str, dict[str, float]]) -> str:
    return "; ".join(f"{name} " + " ".join(f"{key} {v:.2f}" for key, v in by.items()) for name, by in r2.items())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=RENDERED)
    parser.add_argument("--steps", type=int, default=3500)
    parser.add_argument("--out", type=Path, default=FOLDER)
    parser.add_argument("--more", action="store_true", help="so many steps more of what lies in --out")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    corpus = open_corpus(asked.data, CORPUS, lambda done, total: print(f"{done} of {total} clips", flush=True))
    begin = load(asked.out) if asked.more else None
    train(
        corpus.train,
        corpus.held_out,
        asked.steps,
        told=lambda judge: save(asked.out, judge, corpus.held_out),
        begin=begin,
    )


if __name__ == "__main__":
    main()
