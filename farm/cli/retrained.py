"""What became of `dubfarm demo --retrain`: its report, for programs and for people."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from farm.cli.terminal import terminal
from farm.client import TrainingRun


@dataclass(frozen=True)
class Dub:
    """A job of the story. version: name of its model's version. rendered_by: ids of versions that the workers' lines
    about its chunks name. sha256: of its video."""

    custom_id: str
    job_id: str
    version: str
    version_id: str
    rendered_by: tuple[str, ...]
    cohort: str | None
    sha256: str | None


@dataclass(frozen=True)
class Killed:
    """A Ray worker that was killed on the way, in which stage, after which checkpoint."""

    pid: int
    stage: str
    checkpoint: str


@dataclass(frozen=True)
class Refused:
    run_id: str
    version: str
    reasons: tuple[str, ...]


@dataclass(frozen=True)
class Retrained:
    """What happened. killed: None where the run was over before. dubs: in the order of submission. undisturbed: render
    workers of the beginning, with their process ids, that were there at the end as they were."""

    run: TrainingRun
    killed: Killed | None
    first: str
    trained: str
    evaluation: Mapping[str, float]
    dubs: tuple[Dub, ...]
    refused: Refused
    undisturbed: Mapping[str, int]
    seconds: Mapping[str, float] = field(default_factory=dict)


def tell(found: Retrained) -> None:
    """The end of the story, for people."""
    rows = [(dub.custom_id, dub.version, dub.cohort or "", (dub.sha256 or "")[:12]) for dub in found.dubs]
    terminal.table(("job", "rendered by", "as", "video's sha256"), rows, "")
    if (killed := found.killed) is not None:
        terminal.say(f"Ray worker {killed.pid} was killed in {killed.stage}; the run went on from its last checkpoint")
    same = len({dub.sha256 for dub in found.dubs if dub.version == found.first}) == 1
    how = "are the same video, bit for bit" if same else "are not the same video"
    terminal.say(f"The jobs of {found.first}, from before and after the training, {how}")
    terminal.say(f"Render workers that were never restarted: {len(found.undisturbed)}")
    terminal.say("seconds: " + ", ".join(f"{what} {seconds:g}" for what, seconds in found.seconds.items()))
