"""Which factor moves when which code is driven: Table VI and its kin.

A people, D driving frames, F factors.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import torch
from torch import Tensor

from trainer.losses import r_squared
from trainer.metrics import by_factor, by_group, correlation_where, metric
from trainer.subject import CONTROLLED
from trainer.trial import Trial, variance_where

PAPER_RATIO: Final[Mapping[str, float]] = {"lip": 2.2, "pose": 17.0, "blink": 17.0, "gaze": 1.05, "expression": 1.2}
"""Table VI of the paper: on-diagonal over the largest off-diagonal of its row."""


@metric("factor_variance", "Eq. I, Table VI", "neither")
def factor_variance(trial: Trial) -> Mapping[str, Mapping[str, float]]:
    """measured -> controlled -> variance of what is read when that code alone is driven and all others are zero, as a
    share of the factor's natural variance on the driving frames. Gaze and blink are parts of one code, as jobs drive
    them."""
    return _by_measured(trial, trial.apart_canonical)


@metric("factor_variance_held", "Eq. I with the other codes held at a frame", "neither")
def factor_variance_held(trial: Trial) -> Mapping[str, Mapping[str, float]]:
    """As factor_variance, the other codes not zero but a held-out frame's, another one for every person."""
    return _by_measured(trial, trial.apart_held)


@metric("factor_variance_eyes", "Eq. I, gaze and blink apart by what drives them", "neither")
def factor_variance_eyes(trial: Trial) -> Mapping[str, Mapping[str, float]]:
    """As factor_variance, but gaze and blink drive the whole eye code: gaze by frames whose eyes are open, blink by
    frames that look ahead."""
    return _eyes_whole(trial)


@metric("factor_ratio", "Table VI", "higher")
def factor_ratio(trial: Trial) -> Mapping[str, Mapping[str, float]]:
    """Of factor_variance: on-diagonal over the largest off-diagonal, by row (what else moves the factor) and by column
    (what else the code moves), and the row's where the others are held."""
    return {
        "row": ratios(_by_measured(trial, trial.apart_canonical)),
        "column": ratios(_turned(_by_measured(trial, trial.apart_canonical))),
        "row_held": ratios(_by_measured(trial, trial.apart_held)),
        "row_eyes": ratios(_eyes_whole(trial)),
    }


@metric("factor_variance_by_factor", "Eq. I, factor by factor", "neither")
def factor_variance_by_factor(trial: Trial) -> Mapping[str, Mapping[str, float]]:
    """factor -> controlled -> variance, as factor_variance before it is averaged over the factors of a group."""
    columns = {c: by_factor(trial.reader.groups, _share(trial, read)) for c, read in trial.apart_canonical.items()}
    return _turned(columns)


@metric("obedience", "ours", "higher")
def obedience(trial: Trial) -> Mapping[str, float]:
    """Correlation of what is read with what the driving frame truly shows, the factor's own code alone driven: variance
    could be noise, this cannot."""
    true_DF = trial.true[trial.drives]
    shown = trial.reader.shown(true_DF)
    result: dict[str, float] = {}
    for controlled, read_ADF in trial.apart_canonical.items():
        each = torch.stack([correlation_where(read, true_DF, shown) for read in read_ADF]).nanmean(0)
        values = by_factor(trial.reader.groups, each)
        result.update({name: values[name] for name in trial.reader.groups[controlled]})
    return result


@metric("leak", "ours", "lower")
def leak(trial: Trial) -> Mapping[str, float]:
    """How far factors of the made picture follow those of the picture that shows the person: 0 not at all, 1 a copy.
    Slope of the one on the other, person by person, mean over the group's factors; driving codes stay the same."""
    people = min(trial.scope.leak_people, len(trial.clips))
    apart = trial.clips.factors.shape[1] - trial.clips.frames
    read, true = [], []
    for person in range(people):
        clip = torch.full((apart,), person)
        frame = trial.clips.frames + torch.arange(apart)
        look = trial.subject.look(trial.clips.picture(clip, frame))
        driver = trial.drives[(person + 1 + people // 2) % len(trial.drives)]
        made = trial.subject.draw(look, trial.codes.at(driver[None]).held(apart))
        read.append(trial.reader.read(made))
        true.append(trial.clips.factors[clip, frame])
    slopes = slope_within(torch.stack(read), torch.stack(true), torch.stack([trial.reader.shown(t) for t in true]))
    groups = by_group(trial.reader.groups, slopes.abs())
    return {**groups, "largest": max(groups.values())}


@metric("readout_r2", "ours", "higher")
def readout_r2(trial: Trial) -> Mapping[str, Mapping[str, float]]:
    """R^2 of the read-out's factors against the true ones: on true held-out frames (how good the reader is), and on the
    same frames made anew by the model (how well all codes together are obeyed)."""
    driven = trial.self_driven
    read_true = trial.reader.read(driven.wanted)
    return {
        "true": by_factor(trial.reader.groups, r2_where(read_true, driven.true_NF, trial)),
        "generated": by_factor(trial.reader.groups, r2_where(driven.read_NF, driven.true_NF, trial)),
    }


@metric("pose_mse", "Table 1, pose (self-driving)", "lower")
def pose_mse(trial: Trial) -> float:
    """Mean squared error of the pose as read, against the true one, in shares of the pose's natural variance."""
    return _error(trial, trial.self_driven.read_NF, trial.self_driven.true_NF, "pose")


@metric("expression_mse", "Table 1, expression (cross-video)", "lower", {"two people"})
def expression_mse(trial: Trial) -> float:
    """Mean squared error of the expression as read against the driving frame's, each person driven by every other
    one's clip, in shares of natural variance. 2 is chance, 1 what a face that never moves scores."""
    return _error(trial, trial.cross_driven.read_NF, trial.cross_driven.true_NF, "expression")


@metric("cross_r2", "ours (cross-video)", "higher", {"two people"})
def cross_r2(trial: Trial) -> Mapping[str, float]:
    """R^2 of each factor as read against the driving frame's, driven by another person."""
    driven = trial.cross_driven
    return by_factor(trial.reader.groups, r2_where(driven.read_NF, driven.true_NF, trial))


def r2_where(read_NF: Tensor, true_NF: Tensor, trial: Trial) -> Tensor:
    """(F,) R^2 over the rows that show the factor; NaN where none does."""
    shown = trial.reader.shown(true_NF)
    values = [
        r_squared(read_NF[here, i, None], true_NF[here, i, None])[0] if here.any() else torch.tensor(float("nan"))
        for i, here in enumerate(shown.T)
    ]
    return torch.stack(values)


def slope_within(read_ALF: Tensor, true_ALF: Tensor, shown_ALF: Tensor) -> Tensor:
    """(F,) least squares slope of read on true, each person's own mean taken away."""
    count = shown_ALF.sum(1, keepdim=True).clamp_min(1)
    x = (true_ALF - (true_ALF * shown_ALF).sum(1, keepdim=True) / count) * shown_ALF
    y = (read_ALF - (read_ALF * shown_ALF).sum(1, keepdim=True) / count) * shown_ALF
    return (x * y).sum((0, 1)) / x.square().sum((0, 1)).clamp_min(1e-8)


def ratios(rows: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """Of each row, its own column over the largest of the others."""
    result = {}
    for name, row in rows.items():
        others = max(value for column, value in row.items() if column != name)
        result[name] = row[name] / max(others, 1e-4)
    return result


def _turned(table: Mapping[str, Mapping[str, float]]) -> dict[str, dict[str, float]]:
    inner = next(iter(table.values()))
    return {name: {column: row[name] for column, row in table.items()} for name in inner}


def _error(trial: Trial, read_NF: Tensor, true_NF: Tensor, group: str) -> float:
    errors = (read_NF - true_NF).square().mean(0) / trial.natural
    return by_group(trial.reader.groups, errors)[group]


def _share(trial: Trial, read_ADF: Tensor) -> Tensor:
    """(F,) mean over people of the variance over drives, as a share of the natural one."""
    each = [variance_where(read, trial.reader.shown(read)) for read in read_ADF]
    return torch.stack(each).mean(0) / trial.natural


def _by_measured(trial: Trial, read: Mapping[str, Tensor]) -> dict[str, dict[str, float]]:
    columns = {controlled: by_group(trial.reader.groups, _share(trial, part)) for controlled, part in read.items()}
    return {measured: {c: columns[c][measured] for c in CONTROLLED} for measured in CONTROLLED}


def _eyes_whole(trial: Trial) -> dict[str, dict[str, float]]:
    columns = {}
    for controlled in CONTROLLED:
        shares = _share(trial, trial.apart_canonical[controlled])
        if controlled in trial.apart_eyes:
            rows, read = trial.apart_eyes[controlled]
            natural = trial.variance_of(trial.true[rows])
            # Its own factor by how much that varies on the frames that drive; the others by what is natural to them.
            own = trial.columns(controlled)
            shares = _share(trial, read) * trial.natural / torch.where(own, natural, trial.natural)
        columns[controlled] = by_group(trial.reader.groups, shares)
    return {measured: {c: columns[c][measured] for c in CONTROLLED} for measured in CONTROLLED}
