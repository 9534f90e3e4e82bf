"""What the engine's child does: the device, the networks in memory, and one function a kind of work."""

from __future__ import annotations

import platform
from collections import OrderedDict
from dataclasses import replace
from typing import Any

import torch

from farm import log, machine
from farm.domain.chunk import Failure, Reason
from farm.domain.job import Kind, Phase
from farm.domain.limits import MediaLimits
from farm.domain.order import Progress
from farm.errors import Rejected, Transient
from farm.face.nets import FaceNets
from farm.media import hardware, mux
from farm.media.sandbox import Sandbox
from farm.nets import batch, bundle
from farm.nets.precision import precision
from farm.nets.ready import Ready, ready
from workers import plan_file
from workers.coding import Appearance, appearance
from workers.factors import SOURCE
from workers.pipeline import Chunk, open_reader
from workers.reasons import Failed, bundle_failed
from workers.shelf import Shelf
from workers.studio_setup import Setup
from workers.survey import survey
from workers.work import Assembled, BundleFolder, Check, FinalizeWork, PlanWork, RenderWork, Report

APPEARANCES_KEPT = 16
_log = log.get(__name__)


class Studio:
    """Bundles and appearances stay in memory between works, least recently used first out."""

    def __init__(self, setup: Setup) -> None:
        self._threads = setup.threads or max(1, machine.cores() // 2)
        torch.set_num_threads(self._threads)
        # The same frames give the same bits, whichever chunk they are in and whoever renders it on such a device.
        torch.backends.cudnn.benchmark = False
        torch.backends.cudnn.deterministic = True
        self._device = device(setup.device)
        self._dtype = precision(setup.precision, self._device)
        self._bundle_bytes = setup.bundle_bytes
        self._finds_batch = setup.finds_batch
        self._batch: int | None = None
        self._encoders: frozenset[str] = frozenset()
        self._encoder_threads = hardware.encoder_threads(machine.cores(), self._threads)
        self._decoder: str | None = None
        if setup.codecs == "hardware":
            self._encoders = hardware.encoders()
            self._decoder = hardware.DEVICE if hardware.decodes() else None
            if not self._encoders:
                raise RuntimeError("codecs of the hardware were asked for, and no NVENC encoder works here")
        self._nets: FaceNets | None = None
        self._box: Sandbox | None = None
        self._box_limits: MediaLimits | None = None
        self._shelf = Shelf()
        self._bundles: OrderedDict[tuple[str, bool], Ready] = OrderedDict()
        self._appearances: OrderedDict[str, Appearance] = OrderedDict()

    @property
    def info(self) -> dict[str, Any]:
        """What the worker shows of its device."""
        is_cuda = self._device.type == "cuda"
        return {
            "device": str(self._device),
            "name": torch.cuda.get_device_name(self._device) if is_cuda else platform.processor() or platform.machine(),
            "memory_bytes": torch.cuda.get_device_properties(self._device).total_memory
            if is_cuda
            else machine.memory_bytes(),
            "torch": torch.__version__,
            "precision": str(self._dtype).removeprefix("torch."),
            "threads": torch.get_num_threads(),
            "encoders": sorted(self._encoders),
            "decoder": self._decoder or "software",
        }

    def __call__(self, work: object, report: Report, check: Check) -> object:
        if not isinstance(work, RenderWork):
            self._shelf.clear()
        if isinstance(work, PlanWork):
            work = replace(work, batch_frames=work.batch_frames or self._batch)
            box = self._sandbox(work.limits)
            return survey(work, self._face_nets, box, self._encoders, self._encoder_threads, report, check)
        if isinstance(work, RenderWork):
            return self._render(work, report, check)
        if isinstance(work, FinalizeWork):
            return finalize(work, report, check)
        raise TypeError(f"no such work: {type(work).__name__}")

    def _face_nets(self) -> FaceNets:
        if self._nets is None:
            self._nets = FaceNets(self._device)
        return self._nets

    def close(self) -> None:
        """End what was started beside this process, and let go of files."""
        self._shelf.clear()
        if self._box is not None:
            self._box.close()
            self._box = None

    def _sandbox(self, limits: MediaLimits) -> Sandbox:
        if self._box is None or self._box_limits != limits:
            self.close()
            self._box, self._box_limits = Sandbox(limits), limits
        return self._box

    def _render(self, work: RenderWork, report: Report, check: Check) -> object:
        report(Progress(Phase.RENDERING, 0, len(work.span)))
        plan = plan_file.read(work.plan)
        if plan.encoder is not None and not hardware.is_there(plan.encoder, self._encoders):
            raise Transient("encoder_missing", f"the job is encoded by {plan.encoder}, which this worker does not have")
        frames = work.batch_frames or plan.batch_frames
        # Matrix products are shared out differently among other numbers of threads, and then round differently.
        torch.set_num_threads(1 if plan.deterministic else self._threads)
        loaded = self._bundle(work.bundle, plan.deterministic)
        check()
        who = self._appearance(work, plan, loaded)
        try:
            chunk = Chunk(work, plan, loaded, who, frames, self._face_nets, report, self._decoder, self._shelf)
            return chunk.render(check)
        except (torch.OutOfMemoryError, MemoryError) as error:
            # What else is in memory must not make the next, smaller try fail as well.
            self._bundles.clear()
            self._appearances.clear()
            self._shelf.clear()
            if self._device.type == "cuda":
                torch.cuda.empty_cache()
            failure = Failure(Reason.OOM, "out_of_memory", f"batch of {frames}: {error}", batch_frames=frames)
            raise Failed(failure) from error

    def _bundle(self, folder: BundleFolder, deterministic: bool) -> Ready:
        loaded = self._bundles.pop((folder.sha256, deterministic), None)
        if loaded is None:
            # Room is made before, so that what goes and what comes are not in memory side by side.
            self._make_room(sum(file.stat().st_size for file in folder.folder.iterdir()))
            try:
                checked = bundle.load(folder.folder, self._device, folder.sha256)
            except Rejected as error:
                raise bundle_failed(error) from error
            loaded = ready(checked, self._dtype, deterministic=deterministic)
            self._find_batch(loaded)
        self._bundles[folder.sha256, deterministic] = loaded
        self._make_room(0)
        return loaded

    def _make_room(self, coming_bytes: int) -> None:
        """Drop bundles, least recently used first; the last one stays, or makes room for the one that comes."""
        fewest = 0 if coming_bytes else 1
        while (
            len(self._bundles) > fewest
            and coming_bytes + sum(one.weight_bytes for one in self._bundles.values()) > self._bundle_bytes
        ):
            self._bundles.popitem(last=False)

    def _find_batch(self, loaded: Ready) -> None:
        """With the first bundle: the batch of plans to come. What is being rendered keeps that of its own plan."""
        if self._finds_batch and self._batch is None:
            self._batch, speeds = batch.find(loaded)
            if speeds:
                shown = {size: round(speed, 2) for size, speed in speeds.items()}
                _log.info("batch found", batch_frames=self._batch, frames_per_s=shown)

    def _appearance(self, work: RenderWork, plan: plan_file.PlanFile, loaded: Ready) -> Appearance:
        who = self._appearances.pop(work.job_key, None)
        if who is None:
            video = plan.videos[SOURCE]
            reader = open_reader(work.source, video, work.spec.kind is Kind.ANIMATE)
            try:
                (frame,) = reader.frames([video.best_frame])
            finally:
                reader.close()
            who = appearance(frame, video, loaded)
        self._appearances[work.job_key] = who
        while len(self._appearances) > APPEARANCES_KEPT:
            self._appearances.popitem(last=False)
        return who


def finalize(work: FinalizeWork, report: Report, check: Check) -> Assembled:
    """Segments and voice to the finished file, which is then read back and checked."""
    timeline = plan_file.read(work.plan).timeline

    def progress(done: int, total: int) -> None:
        check()
        report(Progress(Phase.STITCHING, done, total))

    report(Progress(Phase.STITCHING, 0, len(timeline)))
    facts = mux.assemble(
        work.segments,
        timeline.pts,
        timeline.end_pts,
        timeline.time_base,
        work.voice,
        work.dest,
        work.spec.output,
        progress,
    )
    return Assembled(facts.frames, float(facts.duration_s))


def device(name: str) -> torch.device:
    """Raises RuntimeError when the device that is asked for is not there."""
    if name == "auto":
        return torch.device("cuda:0" if torch.cuda.is_available() else "cpu")
    wanted = torch.device(name)
    if wanted.type == "cuda":
        torch.cuda.get_device_properties(wanted)
    return wanted
