"""All metrics on a model: a bundle beside held-out puppets or filmed clips, or what a running training has so far.

The report is a plain dict, as JSON has it: `evaluation_set`, `subject`, `reader`, `scope`, and a key a metric
(`trainer.metrics.METRICS`); the gate names numbers by dotted path.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any, Final

import torch

from trainer import footage, metrics_codes, metrics_factors, metrics_lips, metrics_pictures, metrics_stage, readout
from trainer.corpus import Clips, CorpusSetting
from trainer.landmark_prior import LandmarkPrior
from trainer.landmarks import LandmarkReader
from trainer.metrics import METRICS, measure
from trainer.stages import Setting
from trainer.subject import Subject
from trainer.trial import SCOPES, SMOKE, Footage, Reader, Scope, Trial

MODULES: Final = (metrics_factors, metrics_codes, metrics_pictures, metrics_lips, metrics_stage)
"""Importing them enters their metrics."""
FORMAT: Final = 1
LANGUAGE: Final = ("lip_sync", "closed_open", "lse", "nlse_c", "retrieval")
"""Asked again of voices in a language that was never heard."""
BEFORE_STAGE_3: Final = ("stage1", "retrieval", "code_r2")
"""What can be asked before codes have a generator."""
Told = Callable[[str], None]


def evaluate_footage(
    subject: Subject,
    on: Footage,
    reader: Reader,
    scope: Scope,
    has: Mapping[str, Any] | None = None,
    *,
    names: Collection[str] | None = None,
    told: Told = lambda _: None,
) -> tuple[dict[str, Any], Trial]:
    """The report of one model on one footage, and the trial with its pictures. names: of metrics; None asks all whose
    needs are met."""
    trial = Trial(subject, on, reader, scope, has or {})
    values, lacking = measure(trial, names, told)
    report = {
        "format": FORMAT,
        "evaluation_set": f"{on.name}; {reader.name}; {_scope_name(scope)}",
        "subject": {"name": subject.name, "image": subject.networks.sizes.image, **subject.about},
        "footage": {
            "name": on.name,
            "clips": len(on.clips),
            "frames": on.clips.frames,
            "factors": on.truth,
            "groups": {group: list(several) for group, several in reader.groups.items()},
        },
        "reader": {"name": reader.name, **reader.card},
        "scope": dataclasses.asdict(scope),
        **values,
        "lacking": lacking,
    }
    return report, trial


def evaluate_puppets(
    subject: Subject,
    data: Path,
    scope: str = "full",
    has: Mapping[str, Any] | None = None,
    told: Told = lambda _: None,
) -> tuple[dict[str, Any], Trial]:
    """The report on held-out puppets of the model's own size, and, under `unseen_language`, lips in such languages."""
    judge, size = readout.load(), subject.networks.sizes.image
    people = {"full": footage.PEOPLE, "quick": 12, "smoke": 3}[scope]
    frames = 24 if scope == "smoke" else footage.FRAMES
    told("puppets")
    on = footage.puppets(data, size, people, frames=frames)
    has = {"features": judge, "landmarks": LandmarkPrior(), **(has or {})}
    report, trial = evaluate_footage(subject, on, judge, SCOPES[scope], has, told=told)
    told("puppets in unseen languages")
    foreign = footage.puppets(data, size, max(2, people // 2), frames=frames, unseen_language=True)
    spoken, _ = evaluate_footage(subject, foreign, judge, SCOPES[scope], has, names=LANGUAGE, told=told)
    report["unseen_language"] = {"footage": foreign.name, **{name: spoken[name] for name in LANGUAGE}}
    return report, trial


def evaluate(setting: Setting, *, lips: bool = True, scope: Scope | None = None) -> tuple[dict[str, Any], Trial]:
    """The same metrics of a training that is under way, on the clips that its corpus holds out; few pictures.

    lips: whether stage 3 has made a generator; without it only what comes before is asked. Networks are left in eval
    mode.
    """
    setting = on_cpu(setting)
    few = scope or (SMOKE if len(setting.corpus.held_out) < 8 else SCOPES["quick"])
    subject, on, reader, known = _under_way(setting, setting.corpus.held_out)
    has = {"features": reader if known else None, "stage1": setting}
    return evaluate_footage(subject, on, reader, few, has, names=None if lips else BEFORE_STAGE_3)


def trial_of(setting: Setting, people: int) -> Trial:
    """A training that is under way on the first of the people that its corpus holds out, with nothing measured yet."""
    setting = on_cpu(setting)
    subject, on, reader, _ = _under_way(setting, setting.corpus.held_out.part(0, people))
    return Trial(subject, on, reader, SMOKE)


def _under_way(setting: Setting, clips: Clips) -> tuple[Subject, Footage, Reader, bool]:
    """The last: whether true factors are known."""
    subject = Subject(f"recipe {setting.recipe.name}", setting.cast.eval().networks(), window=setting.choices.window)
    corpus = setting.corpus.setting
    known = isinstance(corpus, CorpusSetting) or corpus.factors == "true"
    reader: Reader = readout.load() if known else LandmarkReader(LandmarkPrior())
    truth = "true factors" if known else f"read by {reader.name}"
    return subject, Footage(f"corpus {corpus.key}, held out", clips, truth), reader, known


def on_cpu(setting: Setting) -> Setting:
    """The setting with a copy of networks and clips on the CPU, where readers are; itself where it is there already."""
    cpu = torch.device("cpu")
    if next(setting.cast.parameters()).device == cpu:
        return setting
    return dataclasses.replace(setting, cast=copy.deepcopy(setting.cast).to(cpu), corpus=setting.corpus.to(cpu))


def _scope_name(scope: Scope) -> str:
    return next((name for name, entry in SCOPES.items() if entry == scope), "own scope")


__all__ = ["METRICS", "evaluate", "evaluate_footage", "evaluate_puppets"]
