"""`dubfarm dub` and `dubfarm animate`: one file in, one file out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from farm.cli import options, watch
from farm.cli.connect import client_or_own_farm
from farm.cli.exits import Exit, Failed, usage
from farm.cli.media import Uploads, is_uri, local, require_file
from farm.cli.terminal import terminal
from farm.client import Client, Job
from farm.domain.job import SyncMode

Voice = Annotated[str, typer.Argument(metavar="AUDIO", help="The new voice: a file or a uri.")]
Out = Annotated[
    Path | None, typer.Option("--output", "-o", help="Where the mp4 goes.", show_default="beside you, *-dubbed.mp4")
]
Force = Annotated[bool, typer.Option("--force", "-f", help="Replace the output file if it is there.")]
Sync = Annotated[
    SyncMode, typer.Option(help="What happens when voice and video have different lengths (docs/api.md explains each).")
]
FACTOR = "source (default), canonical, or a video that drives it"
Pose = Annotated[str, typer.Option(metavar="SETTING", help=f"Head pose: {FACTOR}.")]
Eye = Annotated[str | None, typer.Option(metavar="SETTING", help=f"Gaze and blink together: {FACTOR}.")]
Gaze = Annotated[str | None, typer.Option(metavar="SETTING", help=f"Where the eyes look: {FACTOR}.")]
Blink = Annotated[str | None, typer.Option(metavar="SETTING", help=f"How the lids move: {FACTOR}.")]
Expression = Annotated[str, typer.Option(metavar="SETTING", help=f"Expression: {FACTOR}.")]
Lip = Annotated[str, typer.Option(metavar="SETTING", help="Lips: audio (default), or a video that drives them.")]
Point = Annotated[str | None, typer.Option(metavar="X,Y", help="Which face: the one at this pixel.")]
Frame = Annotated[int, typer.Option(min=0, help="The frame that --face-point is in.")]
Like = Annotated[str | None, typer.Option(metavar="IMAGE", help="Which face: the one like this picture.")]
Codec = Annotated[str, typer.Option(metavar="h264|hevc|av1", help="Video codec of the output.")]
Crf = Annotated[int | None, typer.Option(min=0, max=63, help="Quality: lower is better and larger.")]
Model = Annotated[str, typer.Option(help="Model alias, version name or version id.")]
Priority = Annotated[int, typer.Option(min=0, max=100, help="Higher goes first.")]


def dub(
    video: Annotated[str, typer.Argument(metavar="VIDEO", help="The video: a file or a uri.")],
    audio: Voice,
    output: Out = None,
    force: Force = False,
    sync_mode: Sync = SyncMode.CUT_OFF,
    pose: Pose = "source",
    eye: Eye = None,
    gaze: Gaze = None,
    blink: Blink = None,
    expression: Expression = "source",
    lip: Lip = "audio",
    face_point: Point = None,
    face_frame: Frame = 0,
    face_reference: Like = None,
    codec: Codec = "h264",
    crf: Crf = None,
    model: Model = "champion",
    priority: Priority = 50,
    timeout: options.TimeOut = None,
    server: options.Server = None,
    key: options.Key = None,
    data: options.Data = None,
    json: options.Json = False,
) -> None:
    """Give the person in VIDEO the voice AUDIO, with lips that follow it. Everything else stays the source's own.

    Starts an embedded farm for the duration when none is running and none is named.
    """
    terminal.begin(json)
    factors = {"pose": pose, "eye": eye, "gaze": gaze, "blink": blink, "expression": expression, "lip": lip}
    face = _face(face_point, face_frame, face_reference)
    item = {"kind": "dub", "video": video, "audio": audio, "sync_mode": sync_mode.value}
    dest = _destination(output, video, "dubbed", force)
    _one(item, factors, face, codec, crf, model, priority, dest, timeout, server, key, data)


def animate(
    image: Annotated[str, typer.Argument(metavar="IMAGE", help="The portrait: a file or a uri.")],
    audio: Voice,
    output: Out = None,
    force: Force = False,
    pose: Pose = "source",
    eye: Eye = None,
    gaze: Gaze = None,
    blink: Blink = None,
    expression: Expression = "source",
    lip: Lip = "audio",
    face_point: Point = None,
    face_reference: Like = None,
    codec: Codec = "h264",
    crf: Crf = None,
    model: Model = "champion",
    priority: Priority = 50,
    timeout: options.TimeOut = None,
    server: options.Server = None,
    key: options.Key = None,
    data: options.Data = None,
    json: options.Json = False,
) -> None:
    """Let the face of one IMAGE speak with the voice AUDIO."""
    terminal.begin(json)
    factors = {"pose": pose, "eye": eye, "gaze": gaze, "blink": blink, "expression": expression, "lip": lip}
    face = _face(face_point, 0, face_reference)
    dest = _destination(output, image, "animated", force)
    item = {"kind": "animate", "image": image, "audio": audio}
    _one(item, factors, face, codec, crf, model, priority, dest, timeout, server, key, data)


def _one(
    item: dict[str, Any],
    factors: dict[str, str | None],
    face: dict[str, Any] | None,
    codec: str,
    crf: int | None,
    model: str,
    priority: int,
    dest: Path,
    timeout_s: float | None,
    server: str | None,
    key: str | None,
    data: Path | None,
) -> None:
    """Upload, submit as a batch of one, wait, download."""
    drivers = [value for value in factors.values() if value is not None and value not in WORDS]
    faces = [face["reference"]] if face and "reference" in face else []
    for text in [item.get("video") or item["image"], item["audio"], *drivers, *faces]:
        if not is_uri(text):  # before a farm is started for nothing
            require_file(local(text, Path.cwd()))
    with client_or_own_farm(server, key, data) as client:
        put = Uploads(client)
        for name in ("video", "image", "audio"):
            if name in item:
                item[name] = put(item[name])
        item["factors"] = {
            name: value if value in WORDS else {"video": put(value)} for name, value in factors.items() if value
        }
        if face:
            item["face"] = {"reference": put(face["reference"])} if "reference" in face else face
        item["output"] = {"container": "mp4", "video_codec": codec} | ({"crf": crf} if crf is not None else {})
        item["custom_id"] = dest.stem[:64]
        batch = client.submit([item], name=dest.name, priority=priority, model=model)
        try:
            watch.batch(client, batch.id, timeout_s)
        except KeyboardInterrupt:
            client.cancel_batch(batch.id)
            raise
        job = next(client.jobs(batch.id))
        if job.status != "succeeded":
            raise failure(job)
        download(client, job, dest)
        tell_untrained(client, job.model_version)
    terminal.answer({"job": job, "path": dest.resolve()})
    terminal.say(f"[green]done[/green] {dest} ({job.output.frames if job.output else 0} frames)")


WORDS = frozenset({"source", "canonical", "audio"})


def failure(job: Job) -> Failed:
    """Why a job did not succeed, as the end of a command."""
    if job.error is not None:
        return Failed(Exit.FAILED_JOB, job.error.code, f"{job.custom_id} {job.status}: {job.error.detail}")
    return Failed(Exit.FAILED_JOB, f"job_{job.status}", f"{job.custom_id} is {job.status}")


def download(client: Client, job: Job, dest: Path) -> None:
    """The finished file of a job, with a bar."""
    dest.parent.mkdir(parents=True, exist_ok=True)
    with terminal.transfer() as bar:
        task = bar.add_task(f"downloading {dest.name}", total=job.output.size_bytes if job.output else None)
        client.download(job.id, dest, lambda done, total: bar.update(task, completed=done, total=total))


def tell_untrained(client: Client, version_id: str | None) -> bool:
    """Warn when the pictures come from a model that was never trained; returns whether they do."""
    if version_id is None:
        return False
    version = client.version(version_id)
    if not version.trained:
        terminal.warn(
            f"the model {version.name} is not trained: the face it draws is a blur of colours. "
            "Bring weights with: dubfarm models import-official (README.md, 'Official weights')"
        )
    return not version.trained


def _face(point: str | None, frame: int, reference: str | None) -> dict[str, Any] | None:
    if point is not None and reference is not None:
        raise usage("face_ambiguous", "give --face-point or --face-reference, not both")
    if reference is not None:
        return {"reference": reference}
    if point is None:
        return None
    try:
        x, y = (float(part) for part in point.split(","))
    except ValueError:
        raise usage("face_point_invalid", f"--face-point {point}: not X,Y in pixels, such as 640,360") from None
    return {"frame": frame, "point": [x, y]}


def _destination(output: Path | None, source: str, suffix: str, force: bool) -> Path:
    dest = output or Path(f"{Path(source).stem}-{suffix}.mp4")
    if dest.is_dir():
        dest = dest / f"{Path(source).stem}-{suffix}.mp4"
    if dest.exists() and not force:
        raise usage("output_exists", f"{dest} is there already", fix="give another -o, or --force to replace it")
    return dest
