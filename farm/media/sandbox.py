"""Users' files, read in a sandbox: what `probe`, `audio.speech`, `decode.scan` and `decode.image` answer, from a cell.

Decoders are large, old and written in C; files are chosen by strangers. So the first reading of every file, from its
first byte to its last frame, happens in a process that can reach nothing else (`farm.media.cell`). A file that crashes
its reader, or makes it take all memory or time, is refused, with a code that says so.
"""

from __future__ import annotations

import io
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import fields
from fractions import Fraction
from pathlib import Path
from typing import Any, Final

import numpy as np

from farm import log
from farm.domain.document import from_document, to_document
from farm.domain.limits import MediaLimits, over
from farm.domain.media import AudioFacts, MediaFacts, VideoFacts
from farm.errors import Rejected, Transient
from farm.media.cell import FRAME, HEADER
from farm.media.frame import Frame, PictureFormat
from farm.media.index import FrameIndex

POLL_S: Final = 0.25
WORDS_BYTES: Final = 1 << 20
"""The longest message that is no frame and no index."""
FRAME_INDEX_BYTES: Final = 64
"""An index holds less than this for each frame."""
KILLED: Final = frozenset({signal.SIGKILL, signal.SIGTERM, signal.SIGHUP})

logger = log.get(__name__)


class SandboxBug(Exception):
    """A reader failed in a way that is no verdict on the file; its traceback."""


class Scan:
    """As `decode.Scan`: iterate over the frames, then `index` and `facts` are known."""

    picture: PictureFormat
    index: FrameIndex
    facts: VideoFacts

    def __init__(self, cell: _Cell, limits: MediaLimits) -> None:
        self._cell, self._limits = cell, limits
        try:
            self.picture = _picture(cell.message(b"P"), limits)
        except BaseException:
            cell.close()
            raise

    def __iter__(self) -> Iterator[Frame]:
        cell = self._cell
        with cell:
            expected = 0
            while (kind := cell.header()) == b"I":
                frame = _frame(cell, self.picture)
                if frame.index != expected:
                    raise SandboxBug(f"frame {frame.index} came where {expected} was due")
                expected += 1
                yield frame
            arrays = cell.body(kind, b"X", FRAME_INDEX_BYTES * expected + WORDS_BYTES)
            with np.load(io.BytesIO(arrays), allow_pickle=False) as loaded:
                self.index = FrameIndex.from_arrays(loaded)
            if len(self.index) != expected:
                raise SandboxBug(f"an index of {len(self.index)} frames came behind {expected}")
            self.facts = from_document(VideoFacts, json.loads(cell.message(b"V")))
            cell.end()


class Sandbox:
    """One file at a time. `while_waiting` is called several times a second while a cell works; what it raises ends the
    cell. stall_s: the longest silence of a cell. Rejected: those of the function that is asked for, and
    media_reader_crashed, media_memory_exceeded, media_cpu_exceeded. Transient: media_reader_stalled,
    media_reader_killed."""

    def __init__(self, limits: MediaLimits, *, stall_s: float = 600.0, confined: bool = True) -> None:
        self._limits = MediaLimits(**{field.name: getattr(limits, field.name) for field in fields(MediaLimits)})
        self._stall_s, self._confined = stall_s, confined
        self._waiter: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None
        self._cell: _Cell | None = None
        self.while_waiting: Callable[[], None] = lambda: None

    def probe(self, path: Path) -> MediaFacts:
        with self._ask("probe", path) as cell:
            facts = from_document(MediaFacts, json.loads(cell.message(b"F")))
            cell.end()
            return facts

    def speech(self, path: Path, dest_wav: Path) -> tuple[MediaFacts, AudioFacts]:
        """`probe` and `audio.speech` in one."""
        with self._ask("speech", path, dest_wav.parent) as cell:
            facts = from_document(MediaFacts, json.loads(cell.message(b"F")))
            spoken = from_document(AudioFacts, json.loads(cell.message(b"S")))
            cell.end()
            (cell.folder / "speech.wav").replace(dest_wav)
            return facts, spoken

    def scan(self, path: Path, until_s: Fraction | None = None) -> Scan:
        more = {} if until_s is None else {"until_s": str(until_s)}
        return Scan(self._ask("scan", path, more=more), self._limits)

    def image(self, path: Path) -> tuple[Frame, PictureFormat]:
        with self._ask("image", path) as cell:
            picture = _picture(cell.message(b"P"), self._limits)
            if (kind := cell.header()) != b"I":
                raise SandboxBug(f"{kind!r} came where a frame was due")
            frame = _frame(cell, picture)
            cell.end()
            return frame, picture

    def close(self) -> None:
        if self._cell is not None:
            self._cell.close()
        waiter, self._waiter = self._waiter, None
        if self._control is not None:
            self._control.close()
            self._control = None
        if waiter is not None:
            waiter.kill()
            waiter.wait()

    def __enter__(self) -> Sandbox:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _ask(self, what: str, path: Path, near: Path | None = None, more: Mapping[str, str] | None = None) -> _Cell:
        if not path.exists():
            raise FileNotFoundError(path)
        if self._cell is not None and self._cell.is_open:
            raise RuntimeError("the sandbox reads one file at a time")
        if self._waiter is None or self._waiter.poll() is not None:
            self.close()
            self._start()
        control = self._control
        assert control is not None
        folder = tempfile.TemporaryDirectory(prefix="cell-", dir=near)
        ours, theirs = socket.socketpair()
        ask = {
            "what": what,
            "path": str(path.resolve()),
            "folder": folder.name,
            "limits": to_document(self._limits),
            "confined": self._confined,
            **(more or {}),
        }
        self._cell = _Cell(control, ours, folder, self)
        try:
            with theirs:
                socket.send_fds(control, [json.dumps(ask).encode() + b"\n"], [theirs.fileno()])
            self._cell.pid = int(_line(control))
        except (OSError, ValueError):
            self._cell.close()
            raise Transient("media_reader_killed", "the process that reads media is gone") from None
        return self._cell

    def _start(self) -> None:
        ours, theirs = socket.socketpair()
        # One thread: there is a fork to come. What it imports is what this process imports, and nothing else is passed.
        environment = {
            "PYTHONPATH": os.pathsep.join(entry for entry in sys.path if entry),
            "LC_ALL": "C.UTF-8",
            **{f"{library}_NUM_THREADS": "1" for library in ("OMP", "OPENBLAS", "MKL")},
        }
        with theirs:
            self._waiter = subprocess.Popen(
                [sys.executable, "-m", "farm.media.cell", str(theirs.fileno())],
                env=environment,
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
        self._control = ours

    def verdict(self, status: int) -> Exception:
        """What a cell that ended before its answer means."""
        limits = self._limits
        if os.WIFSIGNALED(status):
            number = os.WTERMSIG(status)
            if number == signal.SIGXCPU:
                detail = over("reading it got no further", "decode_cpu_s", limits.decode_cpu_s)
                return Rejected("media_cpu_exceeded", f"{detail} CPU seconds a frame")
            if number not in KILLED:
                logger.warning("a file crashed its reader", signal=number)
                detail = f"the file is damaged such that reading it crashes (signal {number})"
                return Rejected("media_reader_crashed", detail)
            return Transient("media_reader_killed", f"the process that reads media was killed by signal {number}")
        return SandboxBug(f"a cell ended with {status} and no answer")

    def memory(self) -> Rejected:
        limit = self._limits.decode_memory_bytes
        return Rejected("media_memory_exceeded", over("reading it needs more memory", "decode_memory_bytes", limit))

    @property
    def stall_s(self) -> float:
        return self._stall_s

    @property
    def pid(self) -> int | None:
        """Of the cell at work."""
        return self._cell.pid if self._cell is not None and self._cell.is_open else None


class _Cell:
    """The answer of one cell, message after message."""

    def __init__(
        self, control: socket.socket, channel: socket.socket, folder: tempfile.TemporaryDirectory[str], box: Sandbox
    ) -> None:
        self._control, self._channel, self._folder, self._box = control, channel, folder, box
        channel.settimeout(POLL_S)
        self.pid: int | None = None
        self.is_open = True
        self._length = 0

    @property
    def folder(self) -> Path:
        return Path(self._folder.name)

    def __enter__(self) -> _Cell:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def header(self) -> bytes:
        """The letter of the next message. Raises what the cell says instead of an answer."""
        kind, self._length = HEADER.unpack(self.read(HEADER.size))
        if kind in b"RTMB":
            told = json.loads(self.body(kind, kind, WORDS_BYTES))
            if kind == b"M":
                raise self._box.memory()
            if kind == b"B":
                raise SandboxBug(str(told))
            code, detail = map(str, told)
            raise Rejected(code, detail) if kind == b"R" else Transient(code, detail)
        return kind

    def body(self, kind: bytes, wanted: bytes, most: int) -> bytes:
        if kind != wanted or self._length > most:
            raise SandboxBug(f"{kind!r} of {self._length} bytes came where {wanted!r} was due")
        return bytes(self.read(self._length))

    def message(self, wanted: bytes) -> bytes:
        return self.body(self.header(), wanted, WORDS_BYTES)

    def end(self) -> None:
        self.message(b".")

    def check_length(self, length: int) -> None:
        if self._length != length:
            raise SandboxBug(f"a frame of {self._length} bytes came, not of {length}")

    def read(self, count: int) -> bytearray:
        into = bytearray(count)
        self.read_into(memoryview(into))
        return into

    def read_into(self, view: memoryview) -> None:
        heard = time.monotonic()
        while len(view):
            try:
                got = self._channel.recv_into(view)
            except TimeoutError:
                self._box.while_waiting()
                if time.monotonic() - heard > self._box.stall_s:
                    detail = f"reading was silent for {self._box.stall_s:g} s"
                    raise Transient("media_reader_stalled", detail) from None
                continue
            if got == 0:
                raise self._box.verdict(self._status())
            view, heard = view[got:], time.monotonic()

    def _status(self) -> int:
        self.pid = None
        try:
            return int(_line(self._control))
        except (OSError, ValueError):
            return int(signal.SIGKILL)

    def close(self) -> None:
        if not self.is_open:
            return
        self.is_open = False
        self._channel.close()
        if self.pid is not None:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, signal.SIGKILL)
            with suppress(ProcessLookupError, PermissionError):
                os.kill(self.pid, signal.SIGKILL)
            self._status()
        self._folder.cleanup()


def _line(control: socket.socket) -> bytes:
    line = b""
    while not line.endswith(b"\n"):
        part = control.recv(1)
        if not part:
            raise OSError("closed")
        line += part
    return line


def _picture(told: bytes, limits: MediaLimits) -> PictureFormat:
    picture = PictureFormat(**json.loads(told))
    is_plausible = (
        0 < picture.width * picture.height <= limits.max_pixels
        and picture.bit_depth in (8, 10)
        and {picture.chroma_x, picture.chroma_y} <= {0, 1}
    )
    if not is_plausible:
        raise SandboxBug(f"not a picture: {picture}")
    return picture


def _frame(cell: _Cell, picture: PictureFormat) -> Frame:
    kind = np.uint8 if picture.bit_depth == 8 else np.uint16
    small = -(-picture.height // (1 << picture.chroma_y)), -(-picture.width // (1 << picture.chroma_x))
    planes: list[Any] = [np.empty(shape, kind) for shape in ((picture.height, picture.width), small, small)]
    cell.check_length(FRAME.size + sum(plane.nbytes for plane in planes))
    index, pts = FRAME.unpack(cell.read(FRAME.size))
    for plane in planes:
        cell.read_into(memoryview(plane).cast("B"))
    return Frame(index, pts, *planes)
