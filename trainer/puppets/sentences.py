"""What puppets say: endless sentences of common words, in several languages and voices, drawn from a seed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from trainer.puppets.speech import Speech, say

_WORDS: Final[dict[str, str]] = {
    "en-us": (
        "a the my our your one people water morning apple window paper summer river yellow open move above below "
        "baby public music people find feel five very over many woman voice family book good food blue two you "
        "happy coffee early always beautiful mountain problem maybe remember evening before together number simple "
        "whisper father mother bubble map broom awake ahead about sheep cheese yes we saw them buy more bread and "
        "pay for it while thunder rolls far away show shoe far farm fog calm heart talk walk wall"
    ),
    "es": (
        "la el mi una agua casa mañana puente amigo bueno primero abuela tiempo pueblo fuego blanco pan vino mesa "
        "lluvia mucho poco siempre nunca cuando viene vamos abrir puerta ventana música palabra hombre mujer niño "
        "rojo azul verde grande pequeño camino montaña río luna sol bien mal aquí allá"
    ),
    "de": (
        "der die das ein mein Wasser Morgen Apfel Fenster Papier Sommer Fluss gelb offen oben unten Musik Leute "
        "finden fühlen fünf sehr über viele Frau Stimme Familie Buch gut Essen blau zwei glücklich immer schön Berg"
    ),
    "it": (
        "il la mio una acqua casa mattina ponte amico buono primo nonna tempo paese fuoco bianco pane vino tavola "
        "pioggia molto poco sempre mai quando viene andiamo aprire porta finestra musica parola uomo donna bambino"
    ),
}
UNSEEN: Final[dict[str, str]] = {
    "ro": (
        "un o apă casă dimineață pod prieten bun primul bunică timp popor foc alb pâine vin masă ploaie mult puțin "
        "mereu niciodată când vine mergem deschide poarta fereastră muzică cuvânt om femeie copil albastru verde mare"
    ),
    "sw": (
        "maji asubuhi nyumba daraja rafiki nzuri bibi wakati watu moto nyeupe mkate meza mvua sana kidogo daima fungua "
        "mlango dirisha muziki neno mwanaume mwanamke mtoto bluu kubwa"
    ),
}
"""Languages that no training hears: only evaluations speak them."""
_VOICES: Final = ("m1", "m3", "m7", "f2", "f4")
_HELD_OUT_VOICES: Final = ("m5", "f3")


def speak(dice: np.random.Generator, words: int, *, held_out: bool, languages: Sequence[str] = ()) -> Speech:
    """A sentence of so many words, in one of `languages`, or of those that are trained on. Held-out speech has voices
    that are never trained on."""
    known = {**_WORDS, **UNSEEN}
    language = str(dice.choice(list(languages or _WORDS)))
    text = " ".join(dice.choice(known[language].split(), words))
    voice = f"{language}+{dice.choice(_HELD_OUT_VOICES if held_out else _VOICES)}"
    speed, pitch, range_ = (int(dice.integers(low, high)) for low, high in ((140, 210), (30, 75), (30, 80)))
    return say(text, voice, speed, pitch, range_)


@dataclass(frozen=True)
class Manner:
    """How somebody speaks: an espeak-ng voice, its words a minute, pitch and range of pitch (0 to 100)."""

    voice: str
    words_per_minute: int
    pitch: int
    range: int


def manner(dice: np.random.Generator) -> Manner:
    """Somebody's own way of speaking."""
    voice = f"{dice.choice(list(_WORDS))}+{dice.choice(_VOICES)}"
    speed, pitch, range_ = (int(dice.integers(low, high)) for low, high in ((140, 210), (30, 75), (30, 80)))
    return Manner(voice, speed, pitch, range_)


def speak_for(dice: np.random.Generator, how: Manner, seconds: float) -> Speech:
    """A sentence in somebody's manner that lasts at least so long."""
    words = max(4, round(2 * seconds))
    while True:
        text = " ".join(dice.choice(_WORDS[how.voice.partition("+")[0]].split(), words))
        speech = say(text, how.voice, how.words_per_minute, how.pitch, how.range)
        if speech.duration_s >= seconds:
            return speech
        words += 1 + words // 3
