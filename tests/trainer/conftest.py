from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from tests.trainer.prepared import FILMED, PREPARED
from trainer.corpus import Corpus, CorpusSetting, open_corpus
from trainer.prepare.run import prepare
from trainer.puppets.write import write_clips
from trainer.recipes import Group, Phase, Recipe, Stage, Term, tiny

SETTING = CorpusSetting(size=64, clips=5, held_out=2, frames=12, loose=3)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Sums in one order, so that equal means equal."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def corpus_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("corpus")


@pytest.fixture(scope="session")
def corpus(corpus_folder: Path) -> Corpus:
    return open_corpus(corpus_folder, SETTING)


@pytest.fixture
def recipe() -> Recipe:
    """`tiny` with very few, small steps, and with the terms that `tiny` does without: all of the loop, in seconds."""
    base = tiny()
    stages = tuple(_short(stage) for stage in base.stages)
    choices = dataclasses.replace(base.choices, bank=16, negatives=4)
    return dataclasses.replace(
        base, corpus=SETTING, stages=stages, choices=choices, discriminator_width=4, checkpoint_every=2
    )


def _short(stage: Stage) -> Stage:
    phases = stage.phases
    if stage.scene in ("rebuild", "compose"):
        more = [Term("adversarial", 0.1), Term("feature_match", 1.0), Term("gaze", 0.1)]
        if stage.scene == "compose":
            more.append(Term("lip_sync", 0.1))
        hinge = (Term("hinge_real", 1.0), Term("hinge_fake", 1.0))
        generator = dataclasses.replace(phases[0], terms=(*phases[0].terms, *more))
        groups = tuple(dataclasses.replace(g, until=2 if g.part == "expression" else None) for g in generator.groups)
        generator = dataclasses.replace(generator, groups=groups)
        phases = (generator, Phase("discriminator", (Group("discriminator", 1e-4),), hinge, generator.decay))
    return dataclasses.replace(stage, phases=phases, steps=4, batch=4)


@pytest.fixture(scope="session")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three people in VoxCeleb2's layout: puppets as mp4s."""
    folder = tmp_path_factory.mktemp("vox")
    write_clips(folder, FILMED)
    return folder


@pytest.fixture(scope="session")
def made(source: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict]:
    """The set that is prepared of them, and the report."""
    out = tmp_path_factory.mktemp("set")
    return out, prepare(str(source), str(out), PREPARED)
