"""Train the network that hears how a mouth should move: `python -m trainer.speaking` writes farm/face/speaking.

Made of synthesised speech, whose mouth shapes are known: languages, voices, speeds, and on top what rooms and
microphones do to a spectrum. Voices and words are those of the puppets; `farm.face.speaking` says what it is for.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import Tensor, nn

from farm.face.speaking import LEAD_FRAMES, WEIGHTS, SpeakingNet
from farm.media import mel
from trainer.puppets.sentences import speak
from trainer.puppets.speech import RATE_HZ, mouth_shapes

PIECE: Final = 300  # mel frames a sample: 3 s
LOWEST_DB: Final = -100.0


def utterance(seed: int, *, held_out: bool) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """(mel_K80, shape_K3) of a spoken sentence with rests around it; jaw, lip width and pucker by mel frame."""
    dice = np.random.default_rng((seed, int(held_out)))
    spoken = speak(dice, 9, held_out=held_out)
    before, after = (int(dice.uniform(0.1, 0.6) * RATE_HZ) for _ in range(2))
    wave = np.concatenate([np.zeros(before, np.float32), spoken.wave, np.zeros(after, np.float32)])
    heard = mel.mel(wave).T
    shape = mouth_shapes(spoken)
    at = np.arange(len(heard)) - LEAD_FRAMES - 100 * before / RATE_HZ
    columns = [np.interp(at, np.arange(len(shape)), shape[:, i], shape[0, i], shape[-1, i]) for i in range(3)]
    return heard.astype(np.float32), np.stack(columns, 1).astype(np.float32)


def worn(mel_BFK: Tensor, dice: torch.Generator) -> Tensor:
    """What happens to voices on their way: another microphone, level and room tone, other noise in every sample."""
    count, bins, _ = mel_BFK.shape

    def draw(*shape: int) -> Tensor:
        return torch.rand(shape, generator=dice)

    level_db = mel_BFK * 100 - 100
    turns = torch.linspace(0, 1, bins)[None, :, None]
    colour = sum(8 * (draw(count, 1, 1) - 0.5) * torch.cos(np.pi * n * turns) for n in range(1, 5))
    level_db = level_db + colour + 16 * (draw(count, 1, 1) - 0.5)
    noise_db = -35 - 45 * draw(count, 1, 1) + 20 * (draw(count, 1, 1) - 0.5) * (turns - 0.5)
    noise_db = noise_db + 3 * torch.randn(mel_BFK.shape, generator=dice)
    return ((torch.logaddexp(level_db * 0.23, noise_db * 0.23) / 0.23 + 100) / 100).clamp(0, 1)


def samples(count: int, *, held_out: bool) -> tuple[Tensor, Tensor]:
    heard, shapes = [], []
    for seed in range(count):
        mel_KF, shape_K3 = utterance(seed, held_out=held_out)
        for start in range(0, max(1, len(mel_KF) - PIECE + 1), PIECE):
            short = max(0, PIECE - len(mel_KF))
            heard.append(np.pad(mel_KF[start : start + PIECE], ((0, short), (0, 0)), "edge").T)
            shapes.append(np.pad(shape_K3[start : start + PIECE], ((0, short), (0, 0)), "edge").T)
    return torch.from_numpy(np.stack(heard)), torch.from_numpy(np.stack(shapes))


def train(utterances: int, steps: int, seed: int = 0) -> SpeakingNet:
    torch.manual_seed(seed)
    dice = torch.Generator().manual_seed(seed)
    mel_BFK, shape_B3K = samples(utterances, held_out=False)
    test_mel, test_shape = samples(max(8, utterances // 10), held_out=True)
    net = SpeakingNet()
    optimizer = torch.optim.AdamW(net.parameters(), lr=2e-3, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    loss_of = nn.MSELoss()
    for step in range(steps):
        at = torch.randint(len(mel_BFK), (32,), generator=dice)
        optimizer.zero_grad()
        loss = loss_of(net(worn(mel_BFK[at], dice)), shape_B3K[at])
        loss.backward()
        optimizer.step()
        schedule.step()
        if step % 200 == 199:
            with torch.no_grad():
                made = net.eval()(worn(test_mel, dice))
            net.train()
            rest = ((made - test_shape) ** 2).mean((0, 2)) / test_shape.var((0, 2))
            print(
                f"step {step + 1}: loss {float(loss.detach()):.4f}, held-out voices R2 {(1 - rest).tolist()}",
                flush=True,
            )
    return net.eval()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--utterances", type=int, default=700)
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--dest", type=Path, default=WEIGHTS)
    asked = parser.parse_args()
    net = train(asked.utterances, asked.steps)
    asked.dest.parent.mkdir(parents=True, exist_ok=True)
    save_file({name: value.half().contiguous() for name, value in net.state_dict().items()}, asked.dest)


if __name__ == "__main__":
    main()
