"""Recipes: functions that return everything a run needs to know, frozen. `paper` holds the paper's own figures."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from farm.nets.sizes import Sizes
from trainer.augment import Augmentation
from trainer.corpus import CorpusSetting, DatasetSetting

VOXCELEB2_CLIPS: Final = 1_092_009


@dataclass(frozen=True)
class Decay:
    """The learning rate is multiplied by `factor` every `every` steps; `cosine`: to nothing at the stage's end."""

    factor: float = 1.0
    every: int = 1
    cosine: bool = False


@dataclass(frozen=True)
class Group:
    """A part of the cast that a phase trains; from step `until` on it is frozen."""

    part: str
    rate: float
    until: int | None = None


@dataclass(frozen=True)
class Term:
    """A loss of `losses` by its name in `stages.TERMS`."""

    name: str
    weight: float


@dataclass(frozen=True)
class Phase:
    """One optimiser's turn in a step. warmup: steps over which the rate rises from nothing."""

    name: str
    groups: tuple[Group, ...]
    terms: tuple[Term, ...]
    decay: Decay
    betas: tuple[float, float] = (0.0, 0.99)
    epsilon: float = 1e-8
    weight_decay: float = 0.0
    warmup: int = 0


@dataclass(frozen=True)
class Stage:
    """scene: which of `stages.SCENES` draws samples and shows them to the networks. average: EMA of the generators."""

    name: str
    scene: str
    phases: tuple[Phase, ...]
    steps: int
    batch: int
    average: float | None = None


@dataclass(frozen=True)
class Choices:
    """What the scenes and terms need to know beside the phases' own figures.

    Unknown in the paper and so ours: temperature, every share and weight named so.
    """

    negatives: int = 8
    temperature: float = 0.1
    window: int = 13
    bank: int = 512
    loose_share: float = 0.0
    """Share of stage 1's and 3's targets whose factors are drawn apart from each other [ours]."""
    visual_lip_share: float = 0.0
    """Share of stage 3's lip codes that are seen, not heard [ours]."""
    cached_views: int = 0
    """Augmented views of every frame whose unified feature is kept for stages 2 and 3; 0: all is seen live."""
    worn_share: float = 1.0
    """Share of the pictures that teach the read-out which are changed first [ours]."""
    warm_start: bool = False
    """Stage 3's generator begins as stage 1's [ours]."""
    decorrelate_all: bool = False
    """Eq. 6 against eye and pose codes too [ours, beyond the paper]."""
    steer_share: float = 0.5
    """Pictures of mixed codes beside each batch, as a share of it, where a phase has the term `steer` [ours]."""
    zero_share: float = 0.2
    """Share of the mixed codes that are zero [ours]."""
    motion_augmentation: Augmentation = field(default_factory=Augmentation)
    window_augmentation: Augmentation = field(
        default_factory=lambda: Augmentation(scale=0.1, scale_probability=1.0, turn_deg=15, noise=0.0)
    )


@dataclass(frozen=True)
class Recipe:
    name: str
    sizes: Sizes
    corpus: CorpusSetting | DatasetSetting | None
    """None: whatever set that `prepare` made a run is given; `material.bound` puts it here."""
    stages: tuple[Stage, ...]
    choices: Choices
    priors: tuple[str, ...]
    discriminator_width: int
    seed: int
    checkpoint_every: int


def steps(epochs: int, batch: int, clips: int = VOXCELEB2_CLIPS) -> int:
    """An epoch is one pass over the clips."""
    return -(-epochs * clips // batch)


def paper() -> Recipe:
    """Wang et al. 2023, with Burkov et al.'s figures where the paper points to them."""
    halves = Decay(0.5, 80_000)
    burkov = {"betas": (0.0, 0.999), "epsilon": 1e-5}
    published = {"betas": (0.0, 0.99), "weight_decay": 1e-3}
    stage1 = Stage(
        "appearance_motion",
        "rebuild",
        (
            Phase(
                "generator",
                (Group("appearance", 5e-5), Group("trunk", 5e-5), Group("generator0", 5e-5)),
                (
                    Term("perceptual", 3e-2),
                    Term("face", 0.6e-2),
                    Term("adversarial", 1.0),
                    Term("feature_match", 10.0),
                    Term("motion", 1.0),
                ),
                halves,
                **burkov,
            ),
            Phase("discriminator", (Group("discriminator", 5e-6),), _hinge(), halves, **burkov),
        ),
        steps(50, 24),
        24,
        average=0.999,
    )
    lip = Stage(
        "lip",
        "lip",
        (
            Phase(
                "lip",
                (Group("lip", 1e-5), Group("audio", 1e-5)),
                (Term("sync_seen", 1.0), Term("sync_heard", 1.0)),
                Decay(0.93, 200_000),
                **published,
            ),
        ),
        steps(30, 32),
        32,
    )
    eye = _read("eye", 1e-5, halves, steps(30, 128), 128)
    pose = _read("pose", 1e-5, halves, steps(30, 128), 128)
    stage3 = Stage(
        "expression_generator",
        "compose",
        (
            Phase(
                "generator",
                (Group("expression", 1e-5, until=40_000), Group("generator", 2e-5)),
                (
                    Term("image", 1.0),
                    Term("perceptual", 10.0),
                    Term("face", 5.0),
                    Term("adversarial", 1.0),
                    Term("feature_match", 10.0),
                    Term("decorrelation", 1.0),
                    Term("lip_sync", 1.0),
                    Term("gaze", 1.0),
                    Term("motion", 1.0),
                ),
                halves,
                **published,
            ),
            Phase("discriminator", (Group("discriminator", 3.5e-6),), _hinge(), halves, **published),
        ),
        steps(50, 16),
        16,
        average=0.999,
    )
    return Recipe(
        name="paper",
        sizes=Sizes.full(),
        corpus=None,
        stages=(stage1, lip, eye, pose, stage3),
        choices=Choices(),
        priors=("vgg19", "vggface", "deep3d", "emoca", "l2cs"),
        discriminator_width=64,
        seed=0,
        checkpoint_every=5_000,
    )


def tiny() -> Recipe:
    """Puppets of 64 px on a CPU: two hours on one core. No adversary; the read-outs are the only priors."""
    fast = {"betas": (0.5, 0.99), "warmup": 30}
    fade = Decay(cosine=True)
    picture = (Term("image", 2.0), Term("pyramid", 1.0), Term("regions", 3.0), Term("motion", 1.5))
    return Recipe(
        name="tiny",
        sizes=dataclasses.replace(Sizes.tiny(64), dropout=0.1),
        corpus=CorpusSetting(64, 1200, 64, frames=32, loose=16),
        stages=(
            Stage(
                "readout",
                "readout",
                (
                    Phase(
                        "readout", (Group("readout", 2e-3),), (Term("readout", 1.0),), fade, weight_decay=1e-4, **fast
                    ),
                ),
                1400,
                64,
            ),
            Stage(
                "appearance_motion",
                "rebuild",
                (
                    Phase(
                        "generator",
                        (
                            *(Group(part, 1.5e-3) for part in ("appearance", "trunk", "distil")),
                            Group("generator0", 5e-3),
                        ),
                        (*picture, Term("distillation", 1.0)),
                        fade,
                        **fast,
                    ),
                ),
                2600,
                32,
                average=0.99,
            ),
            Stage(
                "lip",
                "lip",
                (
                    Phase(
                        "lip",
                        (Group("lip", 1.5e-3), Group("audio", 1.5e-3)),
                        (Term("sync_seen", 1.0), Term("sync_heard", 1.0)),
                        fade,
                        weight_decay=1e-3,
                        **fast,
                    ),
                ),
                900,
                16,
            ),
            _read("eye", 1e-3, fade, 400, 64, Term("eye_read", 2.0)),
            _read("pose", 1e-3, fade, 400, 128),
            Stage(
                "expression_generator",
                "compose",
                (
                    Phase(
                        "generator",
                        (Group("expression", 1e-3, until=3400), Group("generator", 8e-3)),
                        (
                            Term("image", 2.0),
                            Term("pyramid", 1.0),
                            Term("regions", 6.0),
                            Term("motion", 1.0),
                            Term("decorrelation", 10.0),
                            Term("steer", 1.0),
                        ),
                        fade,
                        betas=(0.9, 0.99),
                        warmup=30,
                    ),
                ),
                6000,
                32,
                average=0.99,
            ),
        ),
        choices=Choices(
            loose_share=0.35,
            worn_share=0.6,
            cached_views=1,
            warm_start=True,
            decorrelate_all=True,
            visual_lip_share=0.2,
            motion_augmentation=Augmentation(
                scale=0.05, brightness=0.35, offset=0.25, contrast=0.3, saturation=0.5, noise=0.06
            ),
            window_augmentation=Augmentation(scale=0.05, turn_deg=6, noise=0.03, offset=0.2, brightness=0.3),
        ),
        priors=("readout",),
        discriminator_width=16,
        seed=1,
        checkpoint_every=200,
    )


def tiny_unaided() -> Recipe:
    """`tiny` without what it adds to the paper: nothing but stage 1's own losses and image priors teaches the trunk, no
    true factor the eyes, and nothing steers stage 3. Prior and warm start stay."""
    base, beyond = tiny(), ("distillation", "eye_read", "steer")
    stages = []
    for stage in base.stages:
        (first,) = stage.phases
        terms = tuple(term for term in first.terms if term.name not in beyond)
        if stage.scene == "rebuild":
            terms = tuple(dataclasses.replace(term, weight=3.0) if term.name == "motion" else term for term in terms)
        groups = tuple(group for group in first.groups if group.part != "distil")
        stages.append(dataclasses.replace(stage, phases=(dataclasses.replace(first, terms=terms, groups=groups),)))
    return dataclasses.replace(base, name="tiny_unaided", stages=tuple(stages))


def single_gpu() -> Recipe:
    """Puppets of 128 px on one 80 GB card: `tiny`'s stages, larger, longer and with the adversary."""
    small = tiny()
    stages = []
    for stage in small.stages:
        stage = dataclasses.replace(stage, steps=20 * stage.steps, batch=2 * stage.batch)
        if stage.scene in ("rebuild", "compose"):
            (first,) = stage.phases
            groups = tuple(
                dataclasses.replace(group, rate=group.rate / 5, until=group.until and 20 * group.until)
                for group in first.groups
            )
            terms = (*first.terms, Term("adversarial", 0.2), Term("feature_match", 2.0))
            first = dataclasses.replace(first, groups=groups, terms=terms)
            second = Phase(
                "discriminator", (Group("discriminator", 1e-4),), _hinge(), first.decay, (0.0, 0.99), warmup=100
            )
            stage = dataclasses.replace(stage, phases=(first, second), average=0.999)
        stages.append(stage)
    sizes = dataclasses.replace(
        Sizes.full(), image=128, generator=(512, 512, 384, 256, 128, 64), appearance_stem=32, motion_stem=32, map=256
    )
    return dataclasses.replace(
        small,
        name="single_gpu",
        sizes=sizes,
        corpus=CorpusSetting(128, 10_000, 200, frames=40, loose=10),
        stages=tuple(stages),
        discriminator_width=64,
        checkpoint_every=500,
    )


def open_() -> Recipe:
    """The paper's stages with priors that anybody has: landmarks, and EfficientNet-Lite0 for VGG19 and VGGFace."""
    published = paper()
    stages = []
    for stage in published.stages:
        first, *rest = stage.phases
        terms = tuple(term for term in first.terms if term.name != "face")
        stages.append(dataclasses.replace(stage, phases=(dataclasses.replace(first, terms=terms), *rest)))
    return dataclasses.replace(published, name="open", stages=tuple(stages), priors=("landmarks", "efficientnet_lite0"))


def open_small() -> Recipe:
    """`open` at 64 px with small networks and without a perceptual network: a set tried on a CPU."""
    base = open_()
    lengths = {"appearance_motion": (2000, 16), "lip": (800, 16), "eye": (400, 32), "pose": (400, 64)}
    stages = []
    for stage in base.stages:
        count, batch = lengths.get(stage.name, (2000, 16))
        phases = []
        for phase in stage.phases:
            terms = tuple(term for term in phase.terms if term.name != "perceptual")
            if stage.name == "appearance_motion" and phase.name == "generator":
                terms = (*terms, Term("image", 1.0))
            groups = tuple(
                dataclasses.replace(group, rate=20 * group.rate, until=group.until and count // 2)
                for group in phase.groups
            )
            phases.append(dataclasses.replace(phase, groups=groups, terms=terms, decay=Decay(cosine=True)))
        stages.append(dataclasses.replace(stage, phases=tuple(phases), steps=count, batch=batch))
    return dataclasses.replace(
        base,
        name="open_small",
        sizes=Sizes.tiny(64),
        stages=tuple(stages),
        priors=("landmarks",),
        discriminator_width=16,
        checkpoint_every=100,
    )


def smoke() -> Recipe:
    """A handful of puppets and `tiny`'s stages cut to seconds each: for trying the machinery, not for pictures."""
    base = tiny()
    lengths = {
        "readout": (24, 16),
        "appearance_motion": (24, 8),
        "lip": (12, 4),
        "eye": (8, 8),
        "pose": (12, 16),
        "expression_generator": (20, 8),
    }
    stages = []
    for stage in base.stages:
        count, batch = lengths[stage.name]
        first, *rest = stage.phases
        # Freezes come at the same share of the stage as in `tiny`.
        groups = tuple(
            dataclasses.replace(group, until=group.until and group.until * count // stage.steps)
            for group in first.groups
        )
        first = dataclasses.replace(first, groups=groups, warmup=min(first.warmup, 4))
        stages.append(dataclasses.replace(stage, phases=(first, *rest), steps=count, batch=batch))
    return dataclasses.replace(
        base,
        name="smoke",
        corpus=CorpusSetting(64, 13, 3, frames=12, loose=4),
        stages=tuple(stages),
        choices=dataclasses.replace(base.choices, bank=64),
        checkpoint_every=8,
    )


RECIPES: Final[dict[str, Callable[[], Recipe]]] = {
    "open": open_,
    "open_small": open_small,
    "paper": paper,
    "single_gpu": single_gpu,
    "smoke": smoke,
    "tiny": tiny,
    "tiny_unaided": tiny_unaided,
}


def _hinge() -> tuple[Term, ...]:
    return (Term("hinge_real", 1.0), Term("hinge_fake", 1.0))


def _read(head: str, rate: float, decay: Decay, count: int, batch: int, *more: Term) -> Stage:
    phase = Phase(head, (Group(head, rate),), (Term(head, 1.0), *more), decay, (0.0, 0.99), weight_decay=1e-3)
    return Stage(head, head, (phase,), count, batch)
