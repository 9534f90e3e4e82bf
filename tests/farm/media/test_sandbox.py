"""The sandbox answers what the readers themselves answer, and nothing that happens in it happens to anybody else."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from farm.domain.limits import MediaLimits
from farm.errors import Rejected, Transient
from farm.media import audio, confine, decode, probe, sandbox
from farm.media.confine import Fence
from farm.media.sandbox import Sandbox
from tests import media_files

LIMITS = MediaLimits()
linux = pytest.mark.skipif(sys.platform != "linux", reason="Landlock and seccomp are Linux's")


@pytest.fixture(scope="module")
def box() -> Iterator[Sandbox]:
    with Sandbox(LIMITS) as box:
        yield box


def test_the_same_answers_come_from_inside(box: Sandbox, tmp_path: Path) -> None:
    video = media_files.video(
        tmp_path / "a.mp4", frames=20, width=98, height=64, rotation=90, pixel_format="yuv422p10le", audio_s=0.5
    )
    assert box.probe(video) == probe.probe(video, LIMITS)
    ours, theirs = decode.scan(video), box.scan(video)
    assert theirs.picture == ours.picture
    for a, b in zip(ours, theirs, strict=True):
        assert (a.index, a.pts) == (b.index, b.pts)
        assert all(np.array_equal(x, y) and x.dtype == y.dtype for x, y in zip(planes(a), planes(b), strict=True))
    assert theirs.facts == ours.facts
    one, other = ours.index.arrays(), theirs.index.arrays()
    assert all(np.array_equal(one[name], other[name]) for name in one)

    picture = media_files.image(tmp_path / "a.png")
    (frame, form), (same, same_form) = decode.image(picture), box.image(picture)
    assert form == same_form
    assert all(np.array_equal(x, y) for x, y in zip(planes(frame), planes(same), strict=True))

    facts, spoken = box.speech(video, tmp_path / "in.wav")
    assert (facts, spoken) == (probe.probe(video, LIMITS), audio.speech(video, tmp_path / "out.wav"))
    assert (tmp_path / "in.wav").read_bytes() == (tmp_path / "out.wav").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.mp4", "a.png", "in.wav", "out.wav"]


def planes(frame: decode.Frame) -> tuple[np.ndarray, ...]:
    return frame.y, frame.u, frame.v


def test_refusals_come_from_inside(box: Sandbox, tmp_path: Path) -> None:
    with pytest.raises(Rejected, match="media_empty"):
        box.probe(media_files.empty(tmp_path / "a.mp4"))
    with pytest.raises(Rejected, match="media_no_audio"):
        box.speech(media_files.video(tmp_path / "b.mp4", frames=2), tmp_path / "b.wav")
    with pytest.raises(Rejected, match="media_no_video"):
        box.scan(media_files.image(tmp_path / "c.png"))
    with pytest.raises(FileNotFoundError):
        box.probe(tmp_path / "absent")


@pytest.mark.parametrize(
    ("number", "error", "code"),
    [
        (signal.SIGSEGV, Rejected, "media_reader_crashed"),
        (signal.SIGABRT, Rejected, "media_reader_crashed"),
        (signal.SIGXCPU, Rejected, "media_cpu_exceeded"),
        (signal.SIGKILL, Transient, "media_reader_killed"),
    ],
)
def test_the_end_of_a_reader_is_a_verdict(
    number: signal.Signals, error: type[Exception], code: str, box: Sandbox, tmp_path: Path
) -> None:
    video = media_files.video(tmp_path / "a.mp4", frames=90, width=640, height=360)
    frames = iter(box.scan(video))
    next(frames)
    assert box.pid is not None
    os.kill(box.pid, number)
    with pytest.raises(error, match=code):
        list(frames)
    assert len(list(box.scan(video))) == 90  # and the next file is read


def test_a_silent_reader_is_left(tmp_path: Path) -> None:
    video = media_files.video(tmp_path / "a.mp4", frames=90, width=640, height=360)
    with Sandbox(LIMITS, stall_s=0.5) as box:
        frames = iter(box.scan(video))
        next(frames)
        pid = box.pid
        assert pid is not None
        os.kill(pid, signal.SIGSTOP)
        with pytest.raises(Transient, match="media_reader_stalled"):
            list(frames)
        assert not Path(f"/proc/{pid}").exists()


def test_who_waits_may_stop(box: Sandbox, tmp_path: Path) -> None:
    def stop() -> None:
        raise KeyboardInterrupt

    video = media_files.video(tmp_path / "a.mp4", frames=90, width=640, height=360)
    frames = iter(box.scan(video))
    next(frames)
    pid = box.pid
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    box.while_waiting = stop
    try:
        with pytest.raises(KeyboardInterrupt):
            list(frames)
    finally:
        box.while_waiting = lambda: None
    assert not Path(f"/proc/{pid}").exists()


def test_memory_is_limited(tmp_path: Path) -> None:
    picture = media_files.image(tmp_path / "a.png", width=3000, height=3000)
    with (
        Sandbox(replace(LIMITS, decode_memory_bytes=128 << 20)) as box,
        pytest.raises(Rejected, match="DUBFARM_INPUT_DECODE_MEMORY_BYTES") as refused,
    ):
        box.image(picture)
    assert refused.value.code == "media_memory_exceeded"


def test_an_answer_that_lies_is_no_answer(box: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    video = media_files.video(tmp_path / "a.mp4", frames=5)
    scan = box.scan(video)
    scan.picture = replace(scan.picture, width=64)
    with pytest.raises(sandbox.SandboxBug):
        list(scan)


ATTEMPTS = """
import ctypes, json, os, socket, sys
own, canary, folder = sys.argv[1:]
def tried(what):
    try:
        what()
    except OSError as error:
        return error.errno
    except MemoryError:
        return "memory"
    return "done"
print(json.dumps({
    "read own": tried(lambda: open(own).read()),
    "write in folder": tried(lambda: open(folder + "/x", "w").write("x")),
    "write own": tried(lambda: open(own, "w")),
    "read canary": tried(lambda: open(canary).read()),
    "write beside": tried(lambda: open(canary + ".new", "w")),
    "list": tried(lambda: os.listdir(os.path.dirname(canary))),
    "unlink": tried(lambda: os.unlink(canary)),
    "passwd": tried(lambda: open("/etc/passwd").read()),
    "proc": tried(lambda: open("/proc/self/environ").read()),
    "run": tried(lambda: os.execv("/bin/sh", ["sh", "-c", "echo ran"])),
    "socket": tried(lambda: socket.socket()),
    "unix socket": tried(lambda: socket.socket(socket.AF_UNIX)),
    "signal": tried(lambda: os.kill(os.getppid(), 0)),
    "memory": tried(lambda: bytearray(1 << 30)),
}))
"""


@linux
def test_what_a_confined_process_cannot_do(tmp_path: Path) -> None:
    held = subprocess.run(
        [sys.executable, "-c", "from farm.media.confine import *; print(*confine(Fence()))"],
        capture_output=True,
        text=True,
        env={"PYTHONPATH": os.pathsep.join(sys.path)},
    ).stdout.split()
    if held != ["limits", "landlock", "seccomp"]:
        pytest.skip(f"this kernel has only {held}")
    own, canary, folder = tmp_path / "own", tmp_path / "canary", tmp_path / "folder"
    own.write_text("mine")
    canary.write_text("secret")
    folder.mkdir()
    fence = Fence(reads=(str(own),), runs=confine.libraries(), writes=(str(folder),), memory_bytes=256 << 20)
    runs = (*fence.runs, os.path.realpath(sys.executable))
    argv = [os.path.realpath(sys.executable), "-I", "-S", "-c", ATTEMPTS, str(own), str(canary), str(folder)]
    done = subprocess.run(confine.command(replace(fence, runs=runs), argv), capture_output=True, text=True, cwd=folder)
    assert done.returncode == 0, done.stderr
    denied = 13
    assert json.loads(done.stdout) == {
        "read own": "done",
        "write in folder": "done",
        "write own": denied,
        "read canary": denied,
        "write beside": denied,
        "list": denied,
        "unlink": denied,
        "passwd": denied,
        "proc": denied,
        "run": denied,
        "socket": denied,
        "unix socket": denied,
        "signal": 1,
        "memory": "memory",
    }
