"""The sandbox, child side: `python -m farm.media.cell FD` waits for asks and reads each in a process of its own.

The waiting process has imported all that is needed and touches no user's file. For every ask it forks; the fork (a
cell) locks itself in (`farm.media.confine`) and only then opens the file, so that whatever a file does to its reader
is done to a process that can reach nothing but that file and its own folder, and that ends with the answer.

The one who asks (`farm.media.sandbox`) trusts nothing that a cell says: answers are JSON, raw samples and arrays
without objects, never pickles.
"""

from __future__ import annotations

import io
import json
import os
import resource
import signal
import socket
import struct
import sys
import traceback
from collections.abc import Callable, Iterator
from dataclasses import asdict
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np

from farm.domain.document import from_document, to_document
from farm.domain.limits import MediaLimits
from farm.errors import Rejected, Transient
from farm.media import audio, confine, decode, probe, run
from farm.media.confine import Fence

HEADER: Final = struct.Struct("<cQ")
FRAME: Final = struct.Struct("<qq")
REPLY_BYTES: Final = 1 << 16
ASK_BYTES: Final = 1 << 16
RENEW_EVERY: Final = 8
"""Frames between two renewals of the CPU limit."""
BYTES_A_CPU_S: Final = 10e6
"""Reading through a file costs CPU as well: more for a larger one."""


class Channel:
    """What a cell says, in messages: a letter, a length, bytes."""

    def __init__(self, connected: socket.socket) -> None:
        self._socket = connected

    def send(self, kind: bytes, *parts: Any) -> None:
        views = [memoryview(part).cast("B") for part in parts if len(part)]
        self._socket.sendall(HEADER.pack(kind, sum(len(view) for view in views)))
        for view in views:
            self._socket.sendall(view)

    def say(self, kind: bytes, document: Any) -> None:
        self.send(kind, json.dumps(document).encode())


def serve(control: socket.socket) -> None:
    """One ask after the other, until the other side closes: a line of JSON with a socket for the answer. Told back: a
    line with the cell's pid, and a line with its wait status when it has ended."""
    while True:
        told, sockets, _, _ = socket.recv_fds(control, ASK_BYTES, 1)
        while told and not told.endswith(b"\n"):
            told += control.recv(ASK_BYTES)
        if not told:
            return
        (answer,) = sockets
        pid = os.fork()
        if pid == 0:
            control.close()
            _cell(json.loads(told), socket.socket(fileno=answer))
        os.close(answer)
        control.sendall(f"{pid}\n".encode())
        _, status = os.waitpid(pid, 0)
        control.sendall(f"{status}\n".encode())


def _cell(ask: dict[str, Any], connected: socket.socket) -> None:
    channel = Channel(connected)
    try:
        os.setsid()  # the one who asked may kill it with all that it started
        path, folder = Path(ask["path"]), Path(ask["folder"])
        limits = from_document(MediaLimits, ask["limits"])
        cpu_s = limits.decode_cpu_s + path.stat().st_size / BYTES_A_CPU_S
        os.chdir(folder)
        if ask["confined"]:
            confine.confine(_fence(path, folder, limits, cpu_s))
        answer = ANSWERS[ask["what"]]
        if "until_s" in ask:
            answer = partial(_scan, until_s=Fraction(ask["until_s"]))
        for kind, *parts in answer(path, folder, limits, _renewal(cpu_s)):
            channel.send(kind, *parts)
        channel.send(b".")
    except Rejected as error:
        channel.say(b"R", [error.code, error.detail])
    except Transient as error:
        channel.say(b"T", [error.code, error.detail])
    except (MemoryError, BlockingIOError):  # the latter: no memory for the stack of one more thread
        channel.say(b"M", None)
    except BaseException:
        channel.say(b"B", traceback.format_exc())
    finally:
        os._exit(0)


def _fence(path: Path, folder: Path, limits: MediaLimits, cpu_s: float) -> Fence:
    package = Path(__file__).resolve().parents[1]
    return Fence(
        reads=(str(path.resolve()),),
        runs=(*confine.libraries(), str(package), os.path.realpath(run.program())),
        writes=(str(folder.resolve()),),
        memory_bytes=limits.decode_memory_bytes,
        cpu_s=int(cpu_s) + 1,
        file_bytes=audio.most_bytes(limits),
    )


def _renewal(cpu_s: float) -> Callable[[], None]:
    def renew() -> None:
        used = resource.getrusage(resource.RUSAGE_SELF)
        hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
        resource.setrlimit(resource.RLIMIT_CPU, (int(used.ru_utime + used.ru_stime + cpu_s) + 1, hard))

    return renew


Answer = Iterator[tuple[Any, ...]]
Renew = Callable[[], None]


def _document(kind: bytes, value: object) -> tuple[bytes, bytes]:
    return kind, json.dumps(to_document(value)).encode()


def _probe(path: Path, folder: Path, limits: MediaLimits, renew: Renew) -> Answer:
    yield _document(b"F", probe.probe(path, limits))


def _speech(path: Path, folder: Path, limits: MediaLimits, renew: Renew) -> Answer:
    yield _document(b"F", probe.probe(path, limits))
    yield _document(b"S", audio.speech(path, folder / "speech.wav", limits))


def _scan(path: Path, folder: Path, limits: MediaLimits, renew: Renew, until_s: Fraction | None = None) -> Answer:
    scan = decode.scan(path, limits.max_pixels, until_s)
    yield b"P", json.dumps(asdict(scan.picture)).encode()
    for frame in scan:
        probe.check_frames(frame.index + 1, limits)
        if frame.index % RENEW_EVERY == 0:
            renew()
        yield b"I", FRAME.pack(frame.index, frame.pts), frame.y, frame.u, frame.v
    arrays = io.BytesIO()
    np.savez(arrays, allow_pickle=False, **scan.index.arrays())
    yield b"X", arrays.getvalue()
    yield _document(b"V", scan.facts)


def _image(path: Path, folder: Path, limits: MediaLimits, renew: Renew) -> Answer:
    probe.probe(path, limits)
    frame, picture = decode.image(path, limits.max_pixels)
    yield b"P", json.dumps(asdict(picture)).encode()
    yield b"I", FRAME.pack(frame.index, frame.pts), frame.y, frame.u, frame.v


ANSWERS: Final[dict[str, Callable[[Path, Path, MediaLimits, Renew], Answer]]] = {
    "probe": _probe,
    "speech": _speech,
    "scan": _scan,
    "image": _image,
}


def main() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    confine.die_with_parent()
    serve(socket.socket(fileno=int(sys.argv[1])))


if __name__ == "__main__":
    main()
