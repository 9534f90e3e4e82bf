"""Networks that look at pictures for the losses: phi and psi of Eq. 1 and 8, VGG19 of Eq. 7, gaze.

A prior is anything with `features`, differentiable in the picture. Small ones, trained on puppets, are always there;
the ones of the paper are files that the user brings.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trainer.corpus import FACTORS
from trainer.losses import box


class PriorMissing(RuntimeError):
    """A prior's file is not there, or is not what it should be."""


@dataclass(frozen=True)
class PriorCard:
    """What a prior is and what may be done with it."""

    name: str
    licence: str
    where: str


class Prior(Protocol):
    card: PriorCard

    def features(self, x_B3SS: Tensor) -> tuple[Tensor, ...]:
        """Features of pictures in [-1, 1]."""
        ...


CARDS: Final = {
    "vgg19": PriorCard(
        "vgg19", "BSD-3-Clause (torchvision; ImageNet terms)", "https://download.pytorch.org/models/vgg19-dcbb9e9d.pth"
    ),
    "vggface": PriorCard("vggface", "CC BY-NC (VGG)", "https://www.robots.ox.ac.uk/~vgg/software/vgg_face, exported"),
    "deep3d": PriorCard(
        "deep3d", "MIT code, Basel Face Model terms", "https://github.com/sicxu/Deep3DFaceRecon_pytorch, exported"
    ),
    "emoca": PriorCard("emoca", "non-commercial (MPI)", "https://github.com/radekd91/emoca, exported"),
    "l2cs": PriorCard("l2cs", "MIT", "https://github.com/Ahmednull/L2CS-Net, exported"),
}

READ_SIDE: Final = 64


class ReadOut(nn.Module):
    """Reads the true factors off a crop: the whole face small for the pose, and the boxes of eyes and mouth, which
    the crop has already put in place, for what is small. Trained on puppets: `readout` is the first stage."""

    card = PriorCard("puppet read-out", "Apache-2.0", "trained on puppets by this recipe")

    def __init__(self, width: int = 16, hidden: int = 96) -> None:
        super().__init__()
        self.face = _Tower(width, (32, 32), 6, hidden)
        self.eyes = _Tower(width, _size("eyes"), 6, hidden)
        self.mouth = _Tower(width, _size("mouth"), 4, hidden)

    def forward(self, x_B3SS: Tensor) -> Tensor:
        """factors_BF in units of their standard deviation around their mean, in FACTORS' order."""
        return self.read(x_B3SS)[0]

    def features(self, x_B3SS: Tensor) -> tuple[Tensor, ...]:
        """phi and psi in one: what is read, and the maps on the way to it."""
        return (*self.read(x_B3SS)[1],)

    def read(self, x_B3SS: Tensor) -> tuple[Tensor, list[Tensor]]:
        """factors_BF and the features."""
        if x_B3SS.shape[-1] != READ_SIDE:
            x_B3SS = F.interpolate(x_B3SS, size=(READ_SIDE, READ_SIDE), mode="area")
        pose, seen_face = self.face(F.avg_pool2d(x_B3SS, 2))
        eyes, seen_eyes = self.eyes(box(x_B3SS, "eyes"))
        mouth, seen_mouth = self.mouth(box(x_B3SS, "mouth"))
        brows, lid, corner = eyes[:, 3:5], eyes[:, 5:6], mouth[:, 3:4]
        factors = torch.cat([mouth[:, :3], pose, eyes[:, :3], brows, corner, lid], 1)
        return factors, [*seen_face, *seen_eyes, *seen_mouth, factors]


def _size(name: str) -> tuple[int, int]:
    high, wide = box(torch.zeros(1, 1, READ_SIDE, READ_SIDE), name).shape[2:]
    return high, wide


class _Tower(nn.Module):
    def __init__(self, width: int, size: tuple[int, int], out: int, hidden: int) -> None:
        super().__init__()
        self.steps = nn.ModuleList()
        below, (high, wide) = 3, size
        for channels, stride in ((width, 1), (2 * width, 2), (3 * width, 2)):
            conv = nn.Conv2d(below, channels, 3, stride, 1, bias=False)
            self.steps.append(nn.Sequential(conv, nn.BatchNorm2d(channels), nn.ReLU()))
            below, high, wide = channels, -(-high // stride), -(-wide // stride)
        self.out = nn.Sequential(
            nn.Flatten(), nn.Linear(below * high * wide, hidden), nn.ReLU(), nn.Linear(hidden, out)
        )

    def forward(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        seen = []
        for step in self.steps:
            x = step(x)
            seen.append(x)
        return self.out(x), seen


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

    def features(self, x_B3SS: Tensor) -> tuple[Tensor, ...]:
        seen = self._network(x_B3SS)
        return tuple(seen) if isinstance(seen, tuple | list) else (seen,)


def open_prior(name: str, folder: Path) -> Prior:
    """A user's prior from folder/NAME.pth or folder/NAME.pt2. Raises PriorMissing, which says where to get it."""
    if name not in CARDS:
        raise PriorMissing(f"no prior {name!r}: one of {', '.join(CARDS)}, or the read-out that puppets teach")
    return Vgg19.from_file(folder / "vgg19.pth") if name == "vgg19" else Exported(name, folder / f"{name}.pt2")


def _check_there(name: str, path: Path) -> None:
    if not path.is_file():
        raise PriorMissing(f"{name}: no file {path}. Get it from {CARDS[name].where} ({CARDS[name].licence})")


def _load_weights(name: str, path: Path) -> dict[str, Tensor]:
    _check_there(name, path)
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise PriorMissing(f"{path} does not hold weights of {name}: {error}") from error


assert len(FACTORS) == 16
