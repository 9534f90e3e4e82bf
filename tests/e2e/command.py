"""The command `dubfarm` as a user has it, in processes of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import wave
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import av

from farm.cli.demo import MATERIAL
from farm.embedded.process import free_port

ROOT = Path(__file__).resolve().parents[2]
WORK_S = 300
SERVICES = ("DATABASE_URL", "BROKER_URL", "STORAGE_URL", "STORAGE_ENDPOINT_URL")


@dataclass(frozen=True)
class Command:
    """`dubfarm … --json` on one data folder. services: variables that name outside services, and what else the farm is
    told; what they do not name, it brings along."""

    data: Path
    services: Mapping[str, str] = field(default_factory=dict)

    def environment(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("DUBFARM_", "PG"))}
        for name in SERVICES:
            kept.pop(name, None)
        # Warnings are errors in the tests' own process only.
        kept.pop("PYTHONWARNINGS", None)
        return {**kept, **self.services, "DUBFARM_DATA": str(self.data), "PYTHONPATH": str(ROOT)}

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "farm.cli", *arguments, "--json"],
            env=self.environment(),
            cwd=self.data.parent,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def __call__(self, *arguments: str) -> tuple[int, Any]:
        """(exit code, what it answered)."""
        process = self.start(*arguments)
        out, err = process.communicate(timeout=WORK_S + 60)
        assert "Traceback" not in err, err
        return process.returncode, json.loads(out) if out else None

    @contextmanager
    def farm(self) -> Iterator[tuple[subprocess.Popen[str], dict[str, Any]]]:
        """`dubfarm up`, killed at the end if the test did not end it."""
        process = self.start("up", "--port", str(free_port()))
        try:
            assert process.stdout is not None
            line = process.stdout.readline()  # the suite's time-out bounds it
            assert line, f"{process.stderr.read() if process.stderr else ''}\n{self.logs()}"
            yield process, json.loads(line)
        finally:
            if process.poll() is None:
                process.kill()
            process.communicate(timeout=60)

    def processes(self) -> list[str]:
        """Command lines of all processes that belong to this data folder, zombies apart."""
        found: list[str] = []
        for proc in Path("/proc").glob("[0-9]*"):
            try:
                belongs = str(self.data).encode() in (proc / "environ").read_bytes() + (proc / "cmdline").read_bytes()
                line = (proc / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            except OSError:
                continue
            if belongs and line and int(proc.name) != os.getpid():
                found.append(f"{proc.name} {line}")
        return found

    def wait_until_gone(self) -> None:
        deadline = time.monotonic() + 180
        while left := self.processes():
            assert time.monotonic() < deadline, left
            time.sleep(0.2)

    def logs(self) -> str:
        files = sorted((self.data / "logs").glob("*.log"))
        return "\n".join(f"== {log.name}\n{log.read_text(errors='replace')[-3000:]}" for log in files)


def short_voice(dest: Path, seconds: float) -> None:
    """The beginning of the demo's voice, as a wav."""
    with av.open(str(MATERIAL / "voice_en.flac")) as container:
        mono = av.AudioResampler("s16", "mono", 16000)
        parts = [part for frame in container.decode(audio=0) for part in mono.resample(frame)]
    samples = b"".join(part.to_ndarray().astype("<i2").tobytes() for part in parts)
    with wave.open(str(dest), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16000)
        file.writeframes(samples[: int(seconds * 16000) * 2])
