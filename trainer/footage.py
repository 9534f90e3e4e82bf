"""What models are judged on: puppets that nobody trained on, with voices and languages that nobody trained on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final

from trainer.corpus import FPS, CorpusSetting, open_corpus, scene
from trainer.puppets.clip import LEAD_S
from trainer.puppets.sentences import UNSEEN
from trainer.puppets.speech import RATE_HZ
from trainer.trial import Footage

SEED: Final = 71
"""No training draws its puppets from it."""
PEOPLE: Final = 24
FRAMES: Final = 50
APART: Final = 8


def puppets(
    folder: Path,
    size: int,
    people: int = PEOPLE,
    *,
    frames: int = FRAMES,
    unseen_language: bool = False,
    done: Callable[[int, int], None] | None = None,
) -> Footage:
    """Held-out identities with held-out voices, rendered once into `folder`; in trained languages or others."""
    languages = tuple(UNSEEN) if unseen_language else ()
    setting = CorpusSetting(size, 0, people, frames=frames, loose=APART, seed=SEED, languages=languages)
    clips = open_corpus(folder, setting, done).held_out
    phonemes, voices = [], []
    for number in range(people):
        drawn = scene(setting, number)
        start_s = drawn.first / FPS - LEAD_S
        phonemes.append([(time_s - start_s, name) for time_s, name in drawn.speech.phonemes])
        start = round(drawn.first / FPS * RATE_HZ)
        voices.append(drawn.clip.wave[start : start + round(frames / FPS * RATE_HZ)])
    said = f"languages {', '.join(languages)}" if languages else "languages of the training"
    return Footage(
        f"puppets {setting.key}: {people} people of seed {SEED}, {frames} frames, unseen voices, {said}",
        clips,
        "true factors",
        phonemes,
        voices,
        FPS,
    )
