"""Whether lips follow the voice, at its own time: against true mouths, phonemes, what the voice lets one expect.

K clips, T frames, L features of a mouth. Shifts are frames by which the curve of what was made is read too early.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import torch
from torch import Tensor

from farm.face import speaking
from farm.media import mel
from trainer.corpus import MEL_PER_FRAME
from trainer.metrics import metric
from trainer.trial import Trial

CLOSED: Final = ("m", "b", "p")
"""Bilabials: lips touch."""
OPEN: Final = ("a", "A", "0", "V", "E", "O")
"""Vowels with an open jaw."""
WINDOW: Final = 5
"""Frames of a mouth that SyncNet compares with a voice at a time."""
FAR: Final = 2
"""From so many frames on, a shifted voice should no longer fit."""


@metric("lip_sync", "ours, with true mouths", "higher")
def lip_sync(trial: Trial) -> Mapping[str, Any]:
    """Correlation of the dubbed mouth's opening with the true one, clip by clip: in time, and the largest when shifted
    by 2 frames or more; and the same of the true mouth with itself, the least that `far` can be."""
    true = opening(trial, trial.clips.factors[: trial.scope.dubbed, : trial.clips.frames])
    made = opening(trial, trial.dubbed[1])
    by_shift = correlations(made, true, trial.scope.shifts)
    of_itself = correlations(true, true, trial.scope.shifts)
    return {**_at_and_far(by_shift), "far_true": _at_and_far(of_itself)["far"], "by_shift": by_shift}


@metric("closed_open", "ours, with phoneme times", "higher", {"phonemes"})
def closed_open(trial: Trial) -> Mapping[str, Any]:
    """How surely the dubbed mouth is further open at open vowels than at bilabials: 2 AUC - 1 over all pairs of a clip,
    1 always, 0 chance; in time, and the largest when phonemes are shifted by 2 frames or more."""
    made = opening(trial, trial.dubbed[1])
    by_shift = contrasts(trial, made)
    true = opening(trial, trial.clips.factors[: trial.scope.dubbed, : trial.clips.frames])
    return {**_at_and_far(by_shift), "true": contrasts(trial, true)["0"], "by_shift": by_shift}


@metric("lse", "Eq. 9 and Table 1, by the farm's speaking net", "neither")
def lse(trial: Trial) -> Mapping[str, Any]:
    """LSE-D (least distance over shifts) and LSE-C (median less least) of the dubbed mouth and the voice, five frames
    at a time, and of the true frames. The distance is between how a mouth opens and widens and what the farm's
    speaking net expects of the voice: comparable among models here, not with SyncNet's figures."""
    heard = torch.stack([_expected(trial, clip) for clip in range(len(trial.dubbed[1]))])
    made = lse_of(mouth(trial, trial.dubbed[1]), heard, trial.scope.shifts)
    true = trial.clips.factors[: trial.scope.dubbed, : trial.clips.frames]
    data = lse_of(mouth(trial, true), heard, trial.scope.shifts)
    return {**made, **{f"data_{name}": value for name, value in data.items()}}


@metric("nlse_c", "Eq. 9, by the farm's speaking net", "lower")
def nlse_c(trial: Trial) -> float:
    """|LSE-C of what was made - LSE-C of the data| / LSE-C of the data."""
    found = lse(trial)
    return normalised(found["c"], found["data_c"])


@metric("syncnet", "Eq. 9 and Table 1, by the user's SyncNet", "neither", {"syncnet", "voices"})
def syncnet(trial: Trial) -> Mapping[str, Any]:
    """LSE-C, LSE-D and NLSE-C by a network that the user brought (syncnet.pt2 among the priors)."""
    network, voices = trial.has["syncnet"], trial.footage.voices
    assert voices is not None
    frames = torch.arange(trial.clips.frames)
    made, data = [], []
    for clip, pictures in enumerate(trial.dubbed[0]):
        true = trial.clips.picture(torch.full_like(frames, clip), frames)
        for found, seen in ((made, pictures), (data, true)):
            mouths, heard = network.embeddings(seen, voices[clip])
            found.append(distances(mouths, heard, trial.scope.shifts))
    ours, theirs = lse_from(torch.stack(made).mean(0)), lse_from(torch.stack(data).mean(0))
    return {**ours, **{f"data_{k}": v for k, v in theirs.items()}, "nlse_c": normalised(ours["c"], theirs["c"])}


def opening(trial: Trial, factors_KTF: Tensor) -> Tensor:
    """(K, T): how far the mouth is open."""
    return factors_KTF[..., trial.reader.names.index(trial.reader.mouth[0])]


def mouth(trial: Trial, factors_KTF: Tensor) -> Tensor:
    """(K, T, 2): how far the mouth is open, and how wide: its width less its pucker."""
    open_, *wide = (factors_KTF[..., trial.reader.names.index(name)] for name in trial.reader.mouth)
    return torch.stack([open_, wide[0] - wide[1] if len(wide) > 1 else wide[0]], -1)


def correlations(made_KT: Tensor, true_KT: Tensor, shifts: int) -> dict[str, float]:
    """Shift -> mean over clips of the correlation of made[t + shift] with true[t]. Clips that do not move are left
    out."""
    result = {}
    frames = made_KT.shape[1]
    for shift in range(-shifts, shifts + 1):
        start, stop = max(0, -shift), min(frames, frames - shift)
        a, b = made_KT[:, start + shift : stop + shift], true_KT[:, start:stop]
        a, b = a - a.mean(1, keepdim=True), b - b.mean(1, keepdim=True)
        power = (a.square().sum(1) * b.square().sum(1)).sqrt()
        moves = power > 1e-8
        result[str(shift)] = float(((a * b).sum(1)[moves] / power[moves]).mean()) if moves.any() else 0.0
    return result


def contrasts(trial: Trial, opening_KT: Tensor) -> dict[str, float]:
    """Shift -> mean over clips of 2 AUC - 1, openings at open vowels against those at bilabials."""
    assert trial.footage.phonemes is not None
    frames = opening_KT.shape[1]
    result = {}
    for shift in range(-trial.scope.shifts, trial.scope.shifts + 1):
        values = []
        for curve, phonemes in zip(opening_KT, trial.footage.phonemes, strict=False):
            times = [(round(t * trial.footage.frames_per_s) + shift, bare(name)) for t, name in phonemes]
            within = [(at, name) for at, name in times if 0 <= at < frames]
            closed = curve[[at for at, name in within if name in CLOSED]]
            open_ = curve[[at for at, name in within if name in OPEN]]
            if len(closed) and len(open_):
                values.append(2 * _auc(open_, closed) - 1)
        result[str(shift)] = sum(values) / len(values) if values else float("nan")
    return result


def bare(mnemonic: str) -> str:
    """The first sound of espeak's mnemonic, without marks of stress and length."""
    return mnemonic.lstrip("',%_|:;=")[:1]


def _auc(high: Tensor, low: Tensor) -> float:
    above = (high[:, None] > low).float() + 0.5 * (high[:, None] == low).float()
    return float(above.mean())


def lse_of(mouth_KTL: Tensor, heard_KTL: Tensor, shifts: int) -> dict[str, float]:
    """LSE of K clips: each feature at its own mean and deviation over all clips, windows of WINDOW frames."""
    seen, heard = (_windows(_standard(values)) for values in (mouth_KTL, heard_KTL))
    each = [distances(a, b, shifts) for a, b in zip(seen, heard, strict=True)]
    return lse_from(torch.stack(each).mean(0))


def distances(seen_TL: Tensor, heard_TL: Tensor, shifts: int) -> Tensor:
    """(2 shifts + 1,): mean over time of the distance of seen[t + shift] and heard[t], from -shifts on."""
    frames = min(len(seen_TL), len(heard_TL))
    found = []
    for shift in range(-shifts, shifts + 1):
        start, stop = max(0, -shift), min(frames, frames - shift)
        apart = seen_TL[start + shift : stop + shift] - heard_TL[start:stop]
        found.append(apart.square().sum(1).sqrt().mean())
    return torch.stack(found)


def lse_from(by_shift: Tensor) -> dict[str, float]:
    """c: median less least; d: least; offset: the shift where it is least."""
    least = by_shift.min()
    offset = int(by_shift.argmin()) - len(by_shift) // 2
    return {"c": float(by_shift.median() - least), "d": float(least), "offset": float(offset)}


def normalised(made: float, data: float) -> float:
    """Eq. 9."""
    return abs(made - data) / max(abs(data), 1e-6)


def _standard(values_KTL: Tensor) -> Tensor:
    return (values_KTL - values_KTL.mean((0, 1))) / values_KTL.std((0, 1)).clamp_min(1e-6)


def _windows(values_KTL: Tensor) -> Tensor:
    """(K, T - 4, 5 L): five frames in a row."""
    return values_KTL.unfold(1, WINDOW, 1).flatten(2)


def _expected(trial: Trial, clip: int) -> Tensor:
    """(T, 2): how far open and how wide the voice lets one expect the mouth at each frame."""
    frame = torch.arange(trial.clips.frames)
    shapes_3K = speaking.shapes(trial.clips.strip[clip])
    # A frame's window starts 8 mel frames before it (`mel.window_start`).
    at = MEL_PER_FRAME * frame + mel.WINDOW_FRAMES // 2 - 2 + speaking.LEAD_FRAMES
    jaw, width, pucker = shapes_3K[:, at]
    return torch.stack([jaw, width - pucker], 1)


def _at_and_far(by_shift: Mapping[str, float]) -> dict[str, float]:
    far = [value for shift, value in by_shift.items() if abs(int(shift)) >= FAR]
    return {"at_0": by_shift["0"], "far": max(far)}
