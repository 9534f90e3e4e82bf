"""`make fuzz-media`: mutated media files through the door that every user's file goes through, and what became of them.

Small files of every container that is read are bent at random (bits, cuts, box sizes, splices of two files, references
to a file that is none of theirs), then probed, decoded to the last frame and heard in the sandbox, as planning does.
Every one must be read or refused with a code; a crash of a reader counts as refused (and is shown). What would be a
fault: any other error, a reader that outlives its limits, a look at the canary. `python -m tests.proofs.media_fuzz
[--files N] [--seed S] [--first K] [--keep FOLDER]`.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import random
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from farm.domain.limits import MediaLimits
from farm.errors import Rejected, Transient
from farm.media.sandbox import Sandbox
from tests import media_files

LIMITS: Final = MediaLimits(
    max_duration_s=600, max_pixels=1920 * 1080, max_frames=20_000, decode_memory_bytes=2**30, decode_cpu_s=10
)
STALL_S: Final = 90.0
IN_ACCESS, IN_OPEN = 0x1, 0x20
NUMBERS: Final = (0, 1, 7, 8, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFE, 0xFFFFFFFF)


def corpus(folder: Path) -> list[Path]:
    """Whole files, small ones, of all kinds."""
    video, audio, image = media_files.video, media_files.audio, media_files.image
    small: dict[str, Any] = {"frames": 8, "width": 96, "height": 64, "gop": 4}
    made = [
        video(folder / "a.mp4", **small, audio_s=0.3),
        video(folder / "turned.mp4", **small, rotation=90, colors=(9, 9, 16)),
        video(folder / "ten.mp4", **small, codec="libx265", pixel_format="yuv420p10le"),
        video(folder / "changing.mp4", **small, pts=[0, 3, 7, 20, 21, 40, 50, 70]),
        video(folder / "a.mov", **small, codec="mpeg4", b_frames=0, audio_s=0.3),
        video(folder / "p.mov", **small, codec="prores_ks", pixel_format="yuv422p10le", b_frames=0),
        video(folder / "a.mkv", **small, audio_s=0.3),
        video(folder / "a.webm", **small, codec="libvpx-vp9"),
        video(folder / "av1.mp4", **small, codec="libsvtav1", options={"preset": "12", "svtav1-params": "lp=1"}),
        video(folder / "a.avi", **small, codec="mpeg4", b_frames=0),
        video(folder / "m.avi", **small, codec="mjpeg", pixel_format="yuvj420p", b_frames=0),
        video(folder / "a.ts", **small, audio_s=0.3),
        audio(folder / "a.wav", seconds=0.3, rate=16_000),
        audio(folder / "a.mp3", seconds=0.3, codec="libmp3lame"),
        audio(folder / "a.flac", seconds=0.3, codec="flac"),
        audio(folder / "a.ogg", seconds=0.3, codec="libopus"),
        audio(folder / "a.m4a", seconds=0.3, codec="aac", layout="stereo"),
        audio(folder / "a.aac", seconds=0.3, codec="aac"),
        audio(folder / "a.aiff", seconds=0.2, codec="pcm_s16be"),
        *(image(folder / f"a{suffix}", width=64, height=48) for suffix in (".png", ".jpg", ".webp", ".bmp")),
        image(folder / "alpha.png", width=48, height=32, pixel_format="rgba"),
    ]
    # The index in front: what is cut off behind it still opens.
    return [*made, media_files.faststart(made[0], folder / "front.mp4")]


Mutation = Callable[[bytearray, random.Random, Sequence[bytes], str], bytearray]


def bits(data: bytearray, dice: random.Random, others: Sequence[bytes], canary: str) -> bytearray:
    for _ in range(dice.choice((1, 2, 8, 64))):
        at = dice.randrange(len(data))
        data[at] ^= 1 << dice.randrange(8)
    return data


def head_bits(data: bytearray, dice: random.Random, others: Sequence[bytes], canary: str) -> bytearray:
    """Where headers are, behind the first bytes that say what it is."""
    for _ in range(dice.choice((1, 3, 9))):
        at = dice.randrange(min(12, len(data) - 1), min(len(data), 700))
        data[at] = dice.randrange(256)
    return data


def cut(data: bytearray, dice: random.Random, others: Sequence[bytes], canary: str) -> bytearray:
    return data[: dice.randrange(1, len(data))]


def hole(data: bytearray, dice: random.Random, others: Sequence[bytes], canary: str) -> bytearray:
    at, size = dice.randrange(len(data)), dice.choice((1, 4, 100, 3000))
    return data[:at] + data[at + size :]


def blank(data: bytearray, dice: random.Random, others: Sequence[bytes], canary: str) -> bytearray:
    at, size = dice.randrange(len(data)), dice.choice((4, 32, 500))
    size = min(size, len(data) - at)
    data[at : at + size] = bytes([dice.choice((0, 255))]) * size
    return data


def number(data: bytearray, dice: random.Random, others: Sequence[bytes], canary: str) -> bytearray:
    """Numbers that go wrong, anywhere."""
    for _ in range(dice.choice((1, 2, 5))):
        size = dice.choice((1, 2, 4, 8))
        if len(data) > size:
            at = dice.randrange(len(data) - size)
            value = dice.choice(NUMBERS) & ((1 << 8 * size) - 1)
            data[at : at + size] = value.to_bytes(size, dice.choice(("big", "little")))
    return data


def box(data: bytearray, dice: random.Random, others: Sequence[bytes], canary: str) -> bytearray:
    """The size of a box or chunk: the four bytes beside a name of four letters."""
    names = [at for at in range(4, len(data) - 8) if data[at : at + 4].isalnum()]
    if not names:
        return number(data, dice, others, canary)
    for _ in range(dice.choice((1, 1, 3))):
        at = dice.choice(names) + dice.choice((-4, 4, 8, 12, 16))
        old = int.from_bytes(data[at : at + 4], "big")
        value = dice.choice((*NUMBERS, old + 1, max(0, old - 1), old * 2, old // 2, len(data), 1_000_000_000))
        data[at : at + 4] = (value & 0xFFFFFFFF).to_bytes(4, dice.choice(("big", "big", "little")))
    return data


def rename(data: bytearray, dice: random.Random, others: Sequence[bytes], canary: str) -> bytearray:
    """A box takes another's name."""
    names = [at for at in range(4, len(data) - 8) if data[at : at + 4].isalpha()]
    if len(names) > 1:
        one, other = dice.choice(names), dice.choice(names)
        data[one : one + 4] = data[other : other + 4]
    return data


def splice(data: bytearray, dice: random.Random, others: Sequence[bytes], canary: str) -> bytearray:
    """The beginning of one file and the rest of another, or a piece of another in the middle."""
    other = dice.choice(others)
    at, there = dice.randrange(1, len(data)), dice.randrange(len(other))
    if dice.random() < 0.5:
        return data[:at] + bytearray(other[there:])
    size = dice.choice((16, 200, 2000))
    return data[:at] + bytearray(other[there : there + size]) + data[at:]


def again(data: bytearray, dice: random.Random, others: Sequence[bytes], canary: str) -> bytearray:
    """A piece repeated, up to thousands of times."""
    at, size, times = dice.randrange(len(data)), dice.choice((8, 64, 512)), dice.choice((2, 50, 3000))
    return data[:at] + data[at : at + size] * times + data[at:]


def reference(data: bytearray, dice: random.Random, others: Sequence[bytes], canary: str) -> bytearray:
    """A file that is none of theirs, named the ways that containers and playlists name files."""
    url = f"file://{canary}"
    told = dice.choice(
        (
            f"#EXTM3U\n#EXTINF:1,\n{url}\n",
            f"ffconcat version 1.0\nfile '{canary}'\n",
            f'<svg xmlns="http://www.w3.org/2000/svg"><image href="{url}"/></svg>',
            f'<?xml version="1.0"?><MPD><BaseURL>{url}</BaseURL></MPD>',
            f"v=0\no=- 0 0 IN IP4 127.0.0.1\na=control:{url}\n",
        )
    ).encode()
    way = dice.randrange(4)
    if way == 0:
        return bytearray(told)
    if way == 1:
        return bytearray(told) + data
    alias = canary.encode()
    dref = b"\0\0\0\0alis\0\0\0\0" + alias
    urls = (b"url \0\0\0\0" + url.encode() + b"\0", len(dref).to_bytes(4, "big") + dref[4:])
    at = data.find(b"url ")
    if way == 2 and at > 0:
        piece = dice.choice(urls)
        return data[: at - 4] + (len(piece) + 4).to_bytes(4, "big") + piece + data[at + 8 :]
    at = dice.randrange(len(data))
    return data[:at] + told + data[at:]


MUTATIONS: Final[tuple[Mutation, ...]] = (
    bits, bits, head_bits, head_bits, cut, hole, blank, number, number, box, box, box, rename, splice, splice, again,
    reference,
)  # fmt: skip


@dataclass(frozen=True)
class Outcome:
    """What became of a file: "read", a code, or a fault with its words."""

    name: str
    verdict: str
    seconds: float
    fault: str = ""


def mutated(files: Sequence[Path], seed: int, count: int, canary: Path, first: int = 0) -> Iterator[tuple[str, bytes]]:
    """`count` files, from number `first` on; the same for the same seed."""
    data = [path.read_bytes() for path in files]
    for k in range(first, first + count):
        dice = random.Random(f"{seed}:{k}")
        which = dice.randrange(len(files))
        bent, names = bytearray(data[which]), []
        for _ in range(dice.choice((1, 1, 1, 2, 3))):
            mutation = dice.choice(MUTATIONS)
            bent = mutation(bent, dice, data, str(canary)) or bytearray(b"\0")
            names.append(mutation.__name__)
        yield f"{k}:{files[which].name}:{'+'.join(names)}", bytes(bent)


def through_the_door(sandbox: Sandbox, path: Path, scratch: Path) -> str:
    """As planning reads a file, whatever part it plays in the job; "read", or the code of the last refusal."""
    verdict = "read"
    try:
        facts = sandbox.probe(path)
    except (Rejected, Transient) as error:
        return error.code
    steps: list[Callable[[], object]] = []
    if facts.video is not None and facts.container in ("png", "jpeg", "webp", "bmp"):
        steps.append(lambda: sandbox.image(path))
    elif facts.video is not None:
        steps.append(lambda: sum(1 for _ in sandbox.scan(path)))
    if facts.audio is not None:
        steps.append(lambda: sandbox.speech(path, scratch / "speech.wav"))
    for step in steps:
        try:
            step()
        except (Rejected, Transient) as error:
            verdict = error.code
    return verdict


def run(
    files: Sequence[Path], seed: int, count: int, folder: Path, canary: Path, first: int = 0, *, confined: bool = True
) -> Iterator[Outcome]:
    path = folder / "input"
    with Sandbox(LIMITS, stall_s=STALL_S, confined=confined) as sandbox:
        for name, data in mutated(files, seed, count, canary, first):
            path.write_bytes(data)
            started, fault = time.monotonic(), ""
            try:
                verdict = through_the_door(sandbox, path, folder)
            except Exception:
                verdict, fault = "FAULT", traceback.format_exc()
            yield Outcome(name, verdict, time.monotonic() - started, fault)


@contextmanager
def watched(canary: Path) -> Iterator[Callable[[], int]]:
    """Counts how often anybody opens or reads the canary (inotify)."""
    libc = ctypes.CDLL(None, use_errno=True)
    queue = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
    if queue < 0 or libc.inotify_add_watch(queue, os.fsencode(canary), IN_ACCESS | IN_OPEN) < 0:
        raise OSError(ctypes.get_errno(), "inotify")

    def looks() -> int:
        try:
            return len(os.read(queue, 1 << 16)) // 16
        except BlockingIOError:
            return 0

    try:
        yield looks
    finally:
        os.close(queue)


def main() -> None:
    parser = argparse.ArgumentParser(description="Mutated media files through the sandboxed door.")
    parser.add_argument("--files", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--first", type=int, default=0, help="number of the first file: to see one again")
    parser.add_argument("--keep", type=Path, help="a folder for the files that were faults or crashes")
    parser.add_argument(
        "--unconfined", action="store_true", help="without Landlock and seccomp: what libav does itself"
    )
    asked = parser.parse_args()
    verdicts: Counter[str] = Counter()
    slowest = Outcome("", "", 0.0)
    faults = 0
    with tempfile.TemporaryDirectory(prefix="fuzz-") as name:
        folder = Path(name)
        for part in ("corpus", "work"):
            (folder / part).mkdir()
        canary = folder / "canary"
        canary.write_text("nobody may read this")
        files = corpus(folder / "corpus")
        with watched(canary) as looks:
            outcomes = run(
                files, asked.seed, asked.files, folder / "work", canary, asked.first, confined=not asked.unconfined
            )
            for done, outcome in enumerate(outcomes, 1):
                verdicts[outcome.verdict] += 1
                slowest = max(slowest, outcome, key=lambda one: one.seconds)
                if outcome.verdict in ("FAULT", "media_reader_crashed", "media_reader_stalled"):
                    print(f"{outcome.verdict} {outcome.name}\n{outcome.fault}", flush=True)
                    if asked.keep is not None:
                        asked.keep.mkdir(parents=True, exist_ok=True)
                        (asked.keep / outcome.name.replace(":", "_")).write_bytes((folder / "work/input").read_bytes())
                faults += outcome.verdict in ("FAULT", "media_reader_stalled")
                if sys.stderr.isatty():
                    print(f"  {done}/{asked.files}", end="\r", file=sys.stderr)
            seen = looks()
    print(f"{sum(verdicts.values())} files, seed {asked.seed}")
    for verdict, count in verdicts.most_common():
        print(f"{count:>8}  {verdict}")
    print(f"slowest: {slowest.seconds:.1f} s, {slowest.name} ({slowest.verdict})")
    print(f"looks at the canary: {seen}; faults: {faults}")
    sys.exit(1 if faults or seen else 0)


if __name__ == "__main__":
    main()
