"""The networks of a training run, by name, and the parts of them that phases train."""

from __future__ import annotations

import copy
import dataclasses
import math
from typing import Final

import torch
from torch import Tensor, nn

from farm.nets.generator import Generator, Modulation
from farm.nets.networks import Networks, build
from farm.nets.sizes import Sizes
from trainer.corpus import FACTORS
from trainer.discriminator import Discriminator
from trainer.priors import ReadOut
from trainer.recipes import Recipe


class Bank(nn.Module):
    """The latest features of an expression and an audio code, oldest overwritten first (Eq. 6)."""

    expression: Tensor
    audio: Tensor
    count: Tensor

    def __init__(self, length: int, expression: int, audio: int) -> None:
        super().__init__()
        self.register_buffer("expression", torch.zeros(length, expression))
        self.register_buffer("audio", torch.zeros(length, audio))
        self.register_buffer("count", torch.zeros((), dtype=torch.long))

    def with_batch(self, expression_BX: Tensor, audio_BL: Tensor) -> tuple[Tensor, Tensor]:
        """Both banks with the batch in place of what it would overwrite; gradient through the batch only."""
        length = len(self.expression)
        kept = min(int(self.count), length - len(expression_BX))
        at = (int(self.count) - 1 - torch.arange(max(kept, 0))) % length
        return (torch.cat([expression_BX, self.expression[at]]), torch.cat([audio_BL, self.audio[at]]))

    @torch.no_grad()
    def add(self, expression_BX: Tensor, audio_BL: Tensor) -> None:
        at = (int(self.count) + torch.arange(len(expression_BX))) % len(self.expression)
        self.expression[at], self.audio[at] = expression_BX, audio_BL
        self.count += len(expression_BX)


class Cast(nn.Module):
    """Everything that is learned or kept in a run. generator0 is stage 1's; `*_average` are the moving averages."""

    def __init__(self, recipe: Recipe) -> None:
        super().__init__()
        sizes = recipe.sizes
        networks = build(sizes)
        self.sizes = sizes
        self.appearance, self.motion, self.audio = networks.appearance, networks.motion, networks.audio
        self.generator0 = Generator(stage1_sizes(sizes))
        self.generator = networks.generator
        self.generator0_average = copy.deepcopy(self.generator0)
        self.generator_average = copy.deepcopy(self.generator)
        self.discriminator = Discriminator(recipe.discriminator_width)
        self.readout = ReadOut()
        self.distil = nn.Linear(sizes.feature, len(FACTORS))
        others = sizes.lip + (sizes.eye + sizes.pose if recipe.choices.decorrelate_all else 0)
        self.bank = Bank(recipe.choices.bank, sizes.expression, others)
        self.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]

    def part(self, name: str) -> nn.Module:
        """What phases name: a network, or "trunk", "lip", "eye", "pose", "expression" of the motion network."""
        if name == "trunk":
            return self.motion.model
        if name in _HEADS:
            names = (f"to_{_HEADS[name]}", f"{_HEADS[name]}_embed")
            return nn.ModuleList([self.motion.get_submodule(piece) for piece in names])
        return self.get_submodule(name)

    def code(self, name: str, unified_BU: Tensor) -> Tensor:
        """The code of one head alone."""
        feature = self.motion.get_submodule(f"to_{_HEADS[name]}")(unified_BU)
        return self.motion.get_submodule(f"{_HEADS[name]}_embed")(feature)

    def networks(self) -> Networks:
        """The four that make a bundle, with the moving average of the generator."""
        return Networks(self.sizes, self.appearance, self.motion, self.audio, self.generator_average)


_HEADS = {"lip": "mouth", "pose": "headpose", "eye": "eye", "expression": "emo"}


def stage1_sizes(sizes: Sizes) -> Sizes:
    """Stage 1's generator takes appearance and the unified feature: one style as long as both."""
    return dataclasses.replace(sizes, lip=sizes.feature - sizes.expression - sizes.eye - sizes.pose)


@torch.no_grad()
def warm_start(cast: Cast, codes_NC: Tensor, unified_NU: Tensor, ridge: float = 1.0) -> float:
    """Let the generator begin as stage 1's, with the unified feature guessed from the codes by ridge regression.

    codes_NC: lip | expression | eye | pose, as in the style. Returns the share of the unified feature so explained.
    """
    ones = torch.cat([codes_NC, codes_NC.new_ones(len(codes_NC), 1)], 1).double()
    square = ones.T @ ones + ridge * torch.eye(ones.shape[1], dtype=torch.float64, device=ones.device)
    map_CU = torch.linalg.solve(square, ones.T @ unified_NU.double())
    rest = (unified_NU - ones @ map_CU).var(0).sum() / unified_NU.var(0).sum()
    map_CU = map_CU.float()
    old, new = cast.generator0_average, cast.generator
    new.load_state_dict({k: v for k, v in old.state_dict().items() if "modulation.weight" not in k}, strict=False)
    for source, target in zip(old.modules(), new.modules(), strict=True):
        if isinstance(source, Modulation) and isinstance(target, Modulation):
            ahead = cast.sizes.appearance
            by_unified = source.weight[:, ahead:] * source.gain
            target.bias.copy_(source.bias + by_unified @ map_CU[-1])
            target.weight[:, ahead:] = by_unified @ map_CU[:-1].T / target.gain
            target.weight[:, :ahead] = source.weight[:, :ahead] * (source.gain / target.gain)
    cast.generator_average.load_state_dict(new.state_dict())
    return 1 - float(rest)


@torch.no_grad()
def scale_code(embedding: nn.Linear, code_NL: Tensor) -> None:
    """One scalar brings a code to about unit variance: cosines stay, and no code drowns another in the style."""
    gain = 1 / math.sqrt(float((code_NL - code_NL.mean(0)).square().mean()) + 1e-12)
    embedding.weight.mul_(gain)
    embedding.bias.mul_(gain)


GAZE_DIMS: Final = [2, 3]
EYE_DIMS: Final = [0, 2, 3]
"""Where blink, gaze_x and gaze_y lie in the eye code (PDFGC.md section 2)."""


@torch.no_grad()
def align_eyes(embedding: nn.Linear, code_NL: Tensor, read_N3: Tensor, ridge: float = 1.0) -> None:
    """Turn the eye code so that a prior's blink lies in dim 0 and its gaze in dims 2 and 3; the rest fills the others.

    Contrast (Eq. 4) says nothing about which dim is which. read_N3: blink, gaze_x, gaze_y as a prior reads them.
    """
    mean_L, code = code_NL.mean(0), (code_NL - code_NL.mean(0)).double()
    open_N = read_N3[:, 0] < read_N3[:, 0].median() + 1
    rows = []
    for place in range(3):
        at = open_N if place else torch.ones_like(open_N)
        x, y = code[at], (read_N3[at, place] - read_N3[at, place].mean()).double()
        rows.append(
            torch.linalg.solve(x.T @ x + ridge * torch.eye(x.shape[1], dtype=x.dtype, device=x.device), x.T @ y)
        )
    first_3L = torch.stack(rows)
    told_N3 = code @ first_3L.T
    rest = code - told_N3 @ torch.linalg.lstsq(told_N3, code).solution
    other = torch.linalg.svd(rest, full_matrices=False).Vh[: code.shape[1] - 3]
    # The rest is seen after what is told has been taken out, so that no dim tells a thing twice.
    other_L = other - other @ torch.linalg.lstsq(told_N3, code).solution.T @ first_3L
    turn = torch.empty(code.shape[1], code.shape[1], dtype=code.dtype)
    turn[EYE_DIMS] = first_3L
    turn[[at for at in range(code.shape[1]) if at not in EYE_DIMS]] = other_L
    turn = (turn / (code @ turn.T).std(0)[:, None].clamp_min(1e-6)).float()
    embedding.bias.copy_(turn @ (embedding.bias - mean_L))
    embedding.weight.copy_(turn @ embedding.weight)
