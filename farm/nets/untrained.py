"""Untrained networks that behave: seeded weights, calibrated so that every code of a frame shows in the picture.

Fresh networks would not do: batch norms that have seen nothing let deep features die or explode, codes of different
lengths weigh differently in the style (2048 of appearance drown 6 of pose), and tanh saturates. None of it is training.
B pictures or windows, A, L, X, E, P lengths of the codes.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from farm.nets.generator import Generator, Modulation, ToRGB
from farm.nets.networks import Networks, build
from farm.nets.sizes import MEL_BINS, MEL_FRAMES, Sizes
from farm.nets.style import style, style_parts

BATCH = 16
REACH = 0.4
"""How far one standard deviation of any one code moves the modulations, whose middle is 1."""
CONTRAST = 0.5
"""Standard deviation of the picture before tanh."""


def networks(sizes: Sizes, seed: int) -> Networks:
    """In eval mode on the CPU; the same for the same seed."""
    with torch.random.fork_rng(devices=()), torch.no_grad():
        torch.manual_seed(seed)
        made = build(sizes)
        pictures_B3SS = _smooth(3, sizes.image, sizes.image).mul(1.6).tanh()
        mel_B1FT = _smooth(1, MEL_BINS, MEL_FRAMES).mul(0.2).add(0.5).clamp(0, 1)
        for network, x in ((made.appearance, pictures_B3SS), (made.motion, pictures_B3SS), (made.audio, mel_B1FT)):
            _calibrate_norms(network, x)
        codes = made.motion(pictures_B3SS)
        for name, code in (
            ("mouth", codes.lip),
            ("headpose", codes.pose),
            ("eye", codes.eye),
            ("emo", codes.expression),
        ):
            _calibrate_code(made.motion.get_submodule(f"{name}_embed.1"), code)
        _calibrate_code(made.audio.get_submodule("mouth_embed.1"), made.audio(mel_B1FT)[1])
        _calibrate_generator(made, pictures_B3SS, mel_B1FT)
    for network in made.named().values():
        network.eval()
    return made


def _smooth(channels: int, height: int, width: int) -> Tensor:
    """Pictures of unit variance with coarse and fine structure, (B, C, H, W)."""
    x = torch.zeros(BATCH, channels, height, width)
    for cells in (3, 8, 20):
        noise = torch.randn(BATCH, channels, cells, cells)
        x += F.interpolate(noise, size=(height, width), mode="bilinear", align_corners=False)
    return (x - x.mean()) / x.std()


def _calibrate_norms(network: nn.Module, x: Tensor) -> None:
    """Batch norms take the statistics of x itself; the network is left in eval mode.

    Variances are shared by a layer's channels: one that hardly moves on so few inputs would be blown up on others.
    """
    norms = [m for m in network.modules() if isinstance(m, nn.BatchNorm1d | nn.BatchNorm2d)]
    network.eval()
    for norm in norms:
        norm.train()
        norm.momentum = 1.0
    network(x)
    for norm in norms:
        norm.momentum = 0.1
        assert norm.running_var is not None
        norm.running_var.fill_(norm.running_var.mean())
    network.eval()


def _calibrate_code(embedding: nn.Module, code_BC: Tensor) -> None:
    """Code of zero mean and unit variance over the calibration batch."""
    assert isinstance(embedding, nn.Linear)
    mean_C = code_BC.mean(dim=0)
    gain = 1 / (code_BC - mean_C).square().mean().sqrt()
    embedding.bias.copy_((embedding.bias - mean_C) * gain)
    embedding.weight.mul_(gain)


def _calibrate_generator(made: Networks, pictures_B3SS: Tensor, mel_B1FT: Tensor) -> None:
    appearance_BA, map_BCMM = made.appearance(pictures_B3SS)
    codes = made.motion(pictures_B3SS)
    lip_BL = made.audio(mel_B1FT)[1]
    style_BD = style(appearance_BA, lip_BL, codes.expression, codes.eye, codes.pose)
    middle_D = style_BD.mean(dim=0)
    made.appearance.conv1x1.weight.div_(map_BCMM.std())
    for module in made.generator.modules():
        if isinstance(module, Modulation):
            for part in style_parts(made.sizes).values():
                length = (style_BD - middle_D)[:, part].square().sum(dim=1).mean().sqrt()
                module.weight[:, part].mul_(REACH / (length * module.gain))
            module.bias.sub_(F.linear(middle_D * module.gain, module.weight))
    _calibrate_contrast(made.generator, style_BD, made.appearance(pictures_B3SS)[1])


def _calibrate_contrast(generator: Generator, style_BD: Tensor, map_BCMM: Tensor) -> None:
    rgb_B3SS = generator.rgb(style_BD, map_BCMM)
    gain = CONTRAST / rgb_B3SS.std()
    for module in generator.modules():
        if isinstance(module, ToRGB):
            module.conv.weight.mul_(gain)
    generator.to_rgbs[-1].get_parameter("bias").sub_(rgb_B3SS.mean() * gain)
