"""Scenes: what each stage draws from the corpus and shows to the networks, and the terms that judge it.

A scene is made once a stage, from the cast, the corpus and the recipe. `draw` is a pure function of sample numbers;
`play` runs the networks for one phase. B samples, N candidates in a clip, S image side.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

import torch
from torch import Tensor

from farm.nets.style import style
from trainer import losses
from trainer.augment import DICE, augment
from trainer.cast import EYE_DIMS, GAZE_DIMS, Cast, align_eyes, scale_code, warm_start
from trainer.corpus import FACTORS, Clips, Corpus, factor_slice, shown
from trainer.features import Features
from trainer.landmark_prior import LandmarkPrior
from trainer.losses import box
from trainer.priors import Prior
from trainer.recipes import Choices, Recipe, Stage
from trainer.sampler import choose, choose_several, uniforms
from trainer.world import ALONE, World


@dataclass(frozen=True)
class Setting:
    """What scenes are made of."""

    cast: Cast
    corpus: Corpus
    recipe: Recipe
    features: Features
    priors: Mapping[str, Prior] = field(default_factory=dict)
    """The user's, by name; the read-out that puppets teach is in the cast."""
    world: World = ALONE

    @property
    def choices(self) -> Choices:
        return self.recipe.choices


class Scene(Protocol):
    """One stage's way from sample numbers to what its losses look at."""

    def begin(self) -> None:
        """Called once, before the stage's first step; never when a stage is resumed."""

    def draw(self, seed: int, first: int, count: int) -> Any:
        """Samples first, first + 1, ...: by their numbers and what the stage leaves alone. Drawn ahead, in a thread."""
        ...

    def play(self, phase: str, batch: Any, before: Any) -> Any:
        """before: what the previous phase of this step saw, None in the first."""

    def after(self, seen: Any) -> None:
        """Called after every step."""

    def end(self) -> None:
        """Called once, after the stage's last step."""


class _Scene:
    def __init__(self, setting: Setting, stage: Stage) -> None:
        self.setting, self.cast, self.choices = setting, setting.cast, setting.choices
        self.world, self.batch = setting.world, stage.batch
        self._wants = {term.name for phase in stage.phases for term in phase.terms}
        self.clips: Clips = setting.corpus.train

    def begin(self) -> None:
        return None

    def after(self, seen: Any) -> None:
        return None

    def end(self) -> None:
        return None


@dataclass(frozen=True)
class Reading:
    """Factors read off pictures, and the true ones, both in units of their deviation. shown: 0 where no picture
    could tell."""

    read: Tensor
    true: Tensor
    shown: Tensor | None = None


class ReadOutScene(_Scene):
    """The prior that puppets teach: pictures, degraded, -> true factors; half of them drawn apart."""

    def draw(self, seed: int, first: int, count: int) -> tuple[Tensor, Tensor, Tensor]:
        dice = uniforms(seed, first, count, 4 + DICE)
        clip, frame = choose(dice[:, 0], len(self.clips)), _any_frame(self.clips, dice[:, 1:3], 0.6)
        x = self.clips.picture(clip, frame)
        worn = augment(x, dice[:, 4:], self.choices.motion_augmentation)
        wearing = (dice[:, 3] < self.choices.worn_share)[:, None, None, None]
        x = torch.where(wearing.to(x.device), worn, x)
        factors = self.clips.factors[clip, frame]
        return x, self.setting.features.units(factors), shown(factors).float()

    def play(self, phase: str, batch: tuple[Tensor, Tensor, Tensor], before: None) -> Reading:
        return Reading(self.cast.readout(batch[0]), batch[1], batch[2])


Pair = tuple[Sequence[Tensor], Sequence[Tensor]]
"""What a prior sees in the generated picture, and in the wanted one."""


@dataclass(frozen=True)
class Rebuilt:
    """A generated picture beside the wanted one, with what the read-outs and the discriminator see in both."""

    image: Tensor
    wanted: Tensor
    factors: Tensor
    motion: Pair
    gaze: Pair
    perceptual: Pair
    face: Pair
    shown: Tensor | None = None
    unified_read: Tensor | None = None
    scores: Pair = ((), ())
    maps: Pair = ((), ())
    banks: tuple[Tensor, Tensor] | None = None
    codes: tuple[Tensor, Tensor] | None = None
    lips: tuple[Tensor, Tensor] | None = None
    steered: tuple[Tensor, Tensor, Tensor] | None = None


@dataclass(frozen=True)
class Pictures:
    source: Tensor
    wanted: Tensor
    moved: Tensor
    factors: Tensor
    shown: Tensor
    clip: Tensor
    frame: Tensor
    dice: Tensor
    steer: Tensor


class _Generating(_Scene):
    """Stages 1 and 3 alike: one appearance frame, one wanted frame of the same person."""

    def draw(self, seed: int, first: int, count: int) -> Pictures:
        dice = uniforms(seed, first, count, 8 + DICE)
        steer = uniforms(seed + 1, first, count, 10 + DICE) if "steer" in self._wants else dice
        clip = choose(dice[:, 0], len(self.clips))
        frame = _any_frame(self.clips, dice[:, 1:3], self.choices.loose_share)
        # A loose frame as the source: one of the same clip would tell the expression away.
        loose = self.clips.factors.shape[1] - self.clips.frames
        source = self.clips.frames + choose(dice[:, 3], loose)
        wanted, factors = self.clips.picture(clip, frame), self.clips.factors[clip, frame]
        return Pictures(
            source=self.clips.picture(clip, source),
            wanted=wanted,
            moved=augment(wanted, dice[:, 8:], self.choices.motion_augmentation),
            factors=self.setting.features.units(factors),
            shown=shown(factors).float(),
            clip=clip,
            frame=frame,
            dice=dice[:, 4:8],
            steer=steer,
        )

    def _judge(self, phase: str, image: Tensor, batch: Pictures, **more: Any) -> Rebuilt:
        generating, wants = phase == "generator", self._wants
        fake = real = ((), ())
        if wants & {"adversarial", "feature_match", "hinge_fake"}:
            fake = self.cast.discriminator(image if generating else image.detach())
            real = self.cast.discriminator(batch.wanted)
        return Rebuilt(
            image=image,
            wanted=batch.wanted,
            factors=batch.factors,
            shown=batch.shown,
            motion=self._seen(
                ("readout", "landmarks", "deep3d", "emoca"), image, batch.wanted, generating and "motion" in wants
            ),
            gaze=self._gaze(image, batch.wanted, generating and "gaze" in wants),
            perceptual=self._seen(
                ("vgg19", "efficientnet_lite0"), image, batch.wanted, generating and "perceptual" in wants
            ),
            face=self._seen(("vggface",), _middle(image), _middle(batch.wanted), generating and "face" in wants),
            scores=(fake[0], real[0]),
            maps=(fake[1], [part.detach() for part in real[1]]),
            **more,
        )

    def _seen(self, names: Sequence[str], image: Tensor, wanted: Tensor, asked: bool) -> Pair:
        """Features of those of the priors that the recipe names."""
        if not asked:
            return (), ()
        priors = [self._prior(name) for name in names if name in self.setting.recipe.priors]
        with torch.no_grad():
            true = [part for prior in priors for part in prior.features(wanted)]
        return [part for prior in priors for part in prior.features(image)], true

    def _gaze(self, image: Tensor, wanted: Tensor, asked: bool) -> Pair:
        if not asked or "l2cs" in self.setting.recipe.priors:
            return self._seen(("l2cs",), image, wanted, asked)
        at = factor_slice("gaze")
        landmarks = self.setting.priors.get("landmarks")
        reader = landmarks if isinstance(landmarks, LandmarkPrior) else self.cast.readout
        with torch.no_grad():
            true = reader(wanted)[:, at]
        return (reader(image)[:, at],), (true,)

    def _prior(self, name: str) -> Prior:
        return self.cast.readout if name == "readout" else self.setting.priors[name]


def _middle(x_B3SS: Tensor) -> Tensor:
    """The central 1 / 1.8 of a picture (Burkov et al.)."""
    side = x_B3SS.shape[-1]
    edge = round(side * (1 - 1 / 1.8) / 2)
    return x_B3SS[:, :, edge : side - edge, edge : side - edge]


class RebuildScene(_Generating):
    """Stage 1: the picture rebuilt from another frame's appearance and its own, changed, picture's motion."""

    def play(self, phase: str, batch: Pictures, before: Rebuilt | None) -> Rebuilt:
        if before is not None:
            return self._judge(phase, before.image, batch)
        appearance_BA, map_BCMM = self.cast.appearance(batch.source)
        unified_BU = self.cast.motion.model(batch.moved)
        image = self.cast.generator0(torch.cat([appearance_BA, unified_BU], 1), map_BCMM)
        return self._judge(phase, image, batch, unified_read=self.cast.distil(unified_BU))

    def end(self) -> None:
        self.setting.features.forget()


@dataclass(frozen=True)
class Synchrony:
    seen: Tensor
    heard: Tensor
    temperature: float


class LipScene(_Scene):
    """Stage 2, lip: frames of one clip and their voice, 1 + 8 of them."""

    def draw(self, seed: int, first: int, count: int) -> tuple[Tensor, Tensor]:
        several = 1 + self.choices.negatives
        dice = uniforms(seed, first, count, 3 + self.clips.frames)
        clip = choose(dice[:, 0], len(self.clips))[:, None].expand(-1, several)
        frame = choose_several(dice[:, 3:], several)
        unified = self.setting.features.unified(clip.flatten(), frame.flatten(), dice[:, 1].repeat_interleave(several))
        return unified, self.clips.window(clip.flatten(), frame.flatten())

    def play(self, phase: str, batch: tuple[Tensor, Tensor], before: None) -> Synchrony:
        several = 1 + self.choices.negatives
        seen, heard = self.cast.code("lip", batch[0]), self.cast.audio(batch[1])[1]
        return Synchrony(seen.unflatten(0, (-1, several)), heard.unflatten(0, (-1, several)), self.choices.temperature)

    def end(self) -> None:
        with torch.no_grad():
            unified, mel = self.draw(0, 0, 64)
            self.cast.motion.eval()
            self.cast.audio.eval()
            scale_code(self.cast.motion.get_submodule("mouth_embed.1"), self.cast.code("lip", unified))  # pyright: ignore
            scale_code(self.cast.audio.get_submodule("mouth_embed.1"), self.cast.audio(mel)[1])  # pyright: ignore


@dataclass(frozen=True)
class Eyes:
    """mixed: the anchor's pictures; unified features of positive and negative; what is true of the positive's eyes,
    which are the anchor's too."""

    mixed: Tensor
    positive: Tensor
    negative: Tensor
    factors: Tensor
    shown: Tensor


@dataclass(frozen=True)
class Triple:
    anchor: Tensor
    positive: Tensor
    negative: Tensor
    temperature: float
    read: Tensor
    true: Tensor
    shown: Tensor


_EYE_FACTORS: Final = [FACTORS.index(name) for name in ("blink", "gaze_x", "gaze_y")]


class EyeScene(_Scene):
    """Stage 2, eye: frame 2 with frame 1's eyes is like frame 1. The crop has put the eyes in place already."""

    def draw(self, seed: int, first: int, count: int) -> Eyes:
        dice = uniforms(seed, first, count, 6 + DICE)
        clip = choose(dice[:, 0], len(self.clips))
        one, two = (_any_frame(self.clips, dice[:, i : i + 2], 0.5) for i in (1, 3))
        true = self.clips.factors[clip, one]
        mixed = self.clips.picture(clip, two).clone()
        box(mixed, "eyes").copy_(box(self.clips.picture(clip, one), "eyes"))
        features = self.setting.features
        positive, negative = (features.unified(clip, frame, dice[:, 5]) for frame in (one, two))
        return Eyes(mixed, positive, negative, features.units(true), shown(true).float())

    def play(self, phase: str, batch: Eyes, before: None) -> Triple:
        with torch.no_grad():
            mixed = self.cast.motion.model(batch.mixed)
        unified = torch.cat([mixed, batch.positive, batch.negative])
        anchor, positive, negative = self.cast.code("eye", unified).chunk(3)
        return Triple(
            anchor,
            positive,
            negative,
            self.choices.temperature,
            positive[:, EYE_DIMS],
            batch.factors[:, _EYE_FACTORS],
            batch.shown[:, _EYE_FACTORS],
        )

    def end(self) -> None:
        """Gaze and blink come to lie where the bundle's reader looks for them (PDFGC.md section 2)."""
        embedding = self.cast.motion.get_submodule("eye_embed.1")
        with torch.no_grad():
            self.cast.motion.eval()
            clips = self.clips
            number = torch.arange(2048)
            clip, frame = number % len(clips), (7 * number // len(clips)) % clips.factors.shape[1]
            code = self.cast.code("eye", self.setting.features.unified(clip, frame, torch.zeros(len(number))))
            if "eye_read" not in self._wants and "readout" in self.setting.recipe.priors:
                pictures = [clips.picture(c, f) for c, f in zip(clip.split(128), frame.split(128), strict=True)]
                read = torch.cat([self.cast.readout(x) for x in pictures])[:, _EYE_FACTORS]
                align_eyes(embedding, code, read)  # pyright: ignore[reportArgumentType]
            else:
                scale_code(embedding, code)  # pyright: ignore[reportArgumentType]


class PoseScene(_Scene):
    """Stage 2, pose: the 6-vector of the head in the crop."""

    def draw(self, seed: int, first: int, count: int) -> tuple[Tensor, Tensor]:
        dice = uniforms(seed, first, count, 4)
        clip, frame = choose(dice[:, 0], len(self.clips)), _any_frame(self.clips, dice[:, 1:3], 0.3)
        unified = self.setting.features.unified(clip, frame, dice[:, 3])
        return unified, self.setting.features.units(self.clips.factors[clip, frame])[:, factor_slice("pose")]

    def play(self, phase: str, batch: tuple[Tensor, Tensor], before: None) -> Reading:
        return Reading(self.cast.code("pose", batch[0]), batch[1])


class ComposeScene(_Generating):
    """Stage 3: the picture from its codes. Expression is averaged over a window; lips come from the voice."""

    def begin(self) -> None:
        features = self.setting.features
        if not self.choices.warm_start:
            return
        with torch.no_grad():
            plain = features.plain(self.clips)[:, :: max(1, self.clips.frames // 8)].flatten(0, 1)
            embedding = self.cast.motion.get_submodule("emo_embed.1")
            scale_code(embedding, self.cast.code("expression", plain))  # pyright: ignore[reportArgumentType]
            codes = [self.cast.code(name, plain) for name in ("lip", "expression", "eye", "pose")]
        features.explained = warm_start(self.cast, torch.cat(codes, 1), plain, ridge=10.0)

    def play(self, phase: str, batch: Pictures, before: Rebuilt | None) -> Rebuilt:
        if before is not None:
            return self._judge(phase, before.image, batch)
        features = self.setting.features
        with torch.no_grad():
            appearance_BA, map_BCMM = self.cast.appearance(batch.source)
            unified_BU = features.unified(batch.clip, batch.frame, batch.dice[:, 0])
            eye, pose, seen = (self.cast.code(name, unified_BU) for name in ("eye", "pose", "lip"))
            # Loose frames have no voice: what is seen must do.
            mute = batch.frame >= self.clips.frames
            heard = self.cast.audio(self.clips.window(batch.clip, batch.frame.clamp_max(self.clips.frames - 1)))[1]
            visual = mute | (batch.dice[:, 1] < self.choices.visual_lip_share)
            lip = torch.where(visual[:, None].to(seen.device), seen, heard)
        expression = self._expression(batch)
        image = self.cast.generator(style(appearance_BA, lip, expression, eye, pose), map_BCMM)
        others = torch.cat([lip, eye, pose], 1) if self.choices.decorrelate_all else lip
        # The banks hold every worker's codes, in the order of samples.
        all_expressions, all_others = self._of_all(expression), self._of_all(others)
        banks = self.cast.bank.with_batch(all_expressions, all_others) if expression.requires_grad else None
        codes = (all_expressions.detach(), all_others)
        lips = steered = None
        if "lip_sync" in self._wants:
            lips = (self.cast.code("lip", self.cast.motion.model(image)), heard)
        if "steer" in self._wants:
            given = {"lip": lip, "pose": pose, "gaze": eye, "blink": eye, "expression": expression}
            steered = self._steer(batch, (appearance_BA, map_BCMM), given)
        return self._judge(phase, image, batch, banks=banks, codes=codes, lips=lips, steered=steered)

    def _of_all(self, x_B: Tensor) -> Tensor:
        """The rows of all workers, in fp32, in the order of samples."""
        x_B = x_B.float().to(self.clips.factors.device)
        return x_B if self.world.alone else self.world.gather(x_B, self.batch)

    def _steer(
        self, batch: Pictures, scene: tuple[Tensor, Tensor], given: Mapping[str, Tensor]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Each code its own, someone else's or zero: factors read off what comes out, those wanted, those that show.

        scene: appearance and map. given: the codes, by group of factors; a zero code asks for the mean factors.
        """
        # Codes come from anybody in the global batch, of which each worker steers its share.
        number = len(batch.clip) if self.world.alone else self.batch
        count = round(self.choices.steer_share * number)
        start, stop = self.world.rows(count)
        given = {name: self._of_all(code) for name, code in given.items()}
        factors, shown_BF, dice_BD = (self._of_all(part) for part in (batch.factors, batch.shown, batch.steer))
        dice = dice_BD[start:stop]
        own = torch.arange(start, stop, device=dice.device)
        made: dict[str, Tensor] = {}
        wanted, seen = torch.zeros_like(factors[start:stop]), torch.ones_like(factors[start:stop])
        for place, (name, code) in enumerate(given.items()):
            way, who = dice[:, 2 * place], choose(dice[:, 2 * place + 1], number)
            zero, other = (way < self.choices.zero_share), way > (1 + self.choices.zero_share) / 2
            donor = torch.where(other, who, own)
            keep = (~zero).float()[:, None].to(code.device)
            made[name] = code[donor] * keep
            wanted[:, factor_slice(name)] = factors[donor][:, factor_slice(name)] * keep
            shows = shown_BF[donor][:, factor_slice(name)]
            seen[:, factor_slice(name)] = torch.where(keep == 0, 1.0, shows)
        mixed_eye = made["blink"].clone()
        mixed_eye[:, GAZE_DIMS] = made["gaze"][:, GAZE_DIMS]
        appearance, map_ = (self._of_all(part)[start:stop] for part in scene)
        image = self.cast.generator(style(appearance, made["lip"], made["expression"], mixed_eye, made["pose"]), map_)
        worn = augment(image, dice[:, 10:], self.choices.motion_augmentation)
        seen *= shown(self.setting.features.factors(wanted))
        return self.cast.readout(worn), wanted, seen * self.world.weigh(stop - start, count, number)

    def _expression(self, batch: Pictures) -> Tensor:
        """Mean code of the frames around, each seen changed in its own way; a loose frame stands alone."""
        reach = self.choices.window // 2
        window = (batch.frame[:, None] + torch.arange(-reach, reach + 1)).clamp(0, self.clips.frames - 1)
        window = torch.where((batch.frame < self.clips.frames)[:, None], window, batch.frame[:, None])
        several = window.shape[1]
        clip, dice = (part.repeat_interleave(several) for part in (batch.clip, batch.dice[:, 2]))
        unified = self.setting.features.unified(clip, window.flatten(), (dice + 0.618 * window.flatten()) % 1)
        return self.cast.code("expression", unified).unflatten(0, (-1, several)).mean(1)

    def after(self, seen: Rebuilt) -> None:
        if seen.codes is not None:
            self.cast.bank.add(*seen.codes)


def _any_frame(clips: Clips, dice_B2: Tensor, loose_share: float) -> Tensor:
    """A frame as in life, or with this chance a loose one."""
    loose = clips.factors.shape[1] - clips.frames
    lively = choose(dice_B2[:, 1], clips.frames)
    return torch.where(dice_B2[:, 0] < loose_share, clips.frames + choose(dice_B2[:, 1], loose), lively)


SCENES: Final[Mapping[str, Callable[[Setting, Stage], Scene]]] = {
    "readout": ReadOutScene,
    "rebuild": RebuildScene,
    "lip": LipScene,
    "eye": EyeScene,
    "pose": PoseScene,
    "compose": ComposeScene,
}

TERMS: Final[Mapping[str, Callable[[Any], Tensor]]] = {
    "readout": lambda s: losses.distillation(s.read, s.true, s.shown),
    "image": lambda s: losses.image(s.image, s.wanted),
    "pyramid": lambda s: losses.pyramid(s.image, s.wanted),
    "regions": lambda s: losses.regions(s.image, s.wanted),
    "motion": lambda s: losses.motion(*s.motion),
    "gaze": lambda s: losses.gaze(torch.cat([*s.gaze[0]], 1), torch.cat([*s.gaze[1]], 1)),
    "perceptual": lambda s: losses.perceptual(*s.perceptual),
    "face": lambda s: losses.perceptual(*s.face),
    "distillation": lambda s: losses.distillation(s.unified_read, s.factors, s.shown),
    "adversarial": lambda s: losses.adversarial(s.scores[0]),
    "feature_match": lambda s: losses.perceptual(*s.maps),
    "hinge_real": lambda s: losses.hinge_real(s.scores[1]),
    "hinge_fake": lambda s: losses.hinge_fake(s.scores[0]),
    "sync_seen": lambda s: losses.info_nce(s.seen, s.heard, s.temperature),
    "sync_heard": lambda s: losses.info_nce(s.heard, s.seen, s.temperature),
    "eye": lambda s: losses.eye_contrast(s.anchor, s.positive, s.negative, s.temperature),
    "eye_read": lambda s: losses.distillation(s.read, s.true, s.shown),
    "pose": lambda s: losses.pose(s.read, s.true),
    "steer": lambda s: losses.distillation(*s.steered),
    "decorrelation": lambda s: losses.decorrelation(*s.banks) if s.banks else s.image.new_zeros(()),
    "lip_sync": lambda s: losses.lip_sync(*s.lips),
}
