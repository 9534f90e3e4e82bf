"""Scores of a chunk, and whether it may count: looks at some of its frames through the farm's own face networks.

Every SPACING_S of the chunk the frames of LOOK_S are looked at, so that motion is seen as it is; of each such stretch a
few frames are compared with the source. The scores:
    face_found      share of frames with the chosen face in the source
    landmarks       share of looked-at frames with a face in the output, where the plan has one
    identity        1 for the source's own face, less by farm.face.likeness' distance
    lip_agreement   -1 to 1, farm.face.speaking: the mouth's motion against the voice
    jitter          mean jump of the face's firm points from frame to frame, beyond the source's own, in per cent of the
                    distance between the eyes
    border_error    farm.face.seam, 8-bit codes
    frozen          share of generated frames that are the one before although their codes are not
    black           share of frames that are black where the source is not
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from farm.domain.job import Kind
from farm.domain.quality import OnBreach, flags
from farm.domain.span import Span
from farm.face import composite, likeness, speaking
from farm.face import points as layout
from farm.face.align import FACE
from farm.face.landmarks import Landmarks, see
from farm.face.nets import FaceNets
from farm.face.pictures import FramePictures
from farm.face.planes import to_device
from farm.face.resample import apply, invert
from farm.face.seam import border_error
from farm.media import audio
from farm.media.frame import Frame, PictureFormat
from farm.media.glance import glance, is_black
from farm.media.mux import OutputCheckFailed
from workers.factors import SOURCE, Lane
from workers.plan_file import PlanFile
from workers.work import RenderWork

LOOK_S: Final = 2.4
SPACING_S: Final = 15.0
COMPARED: Final = 12  # of the frames looked at, one in so many is compared with the source
PRESENT: Final = 0.5
_FIRM: Final = (33, 133, 362, 263, 168, 6, 4, 98, 327)  # mesh points: eye corners and nose, which speech moves little
_BLANK: Final = 0.004  # deviation of a generated picture in [-1, 1] that shows nothing at all
_SAME_CODES: Final = 1e-3
_MOST_FROZEN, _MOST_BLACK = 0.5, 0.1
_SHORT_S: Final = 1.0


class Scorer:
    """One chunk's. `generated` is called by one stage and `composed` by another, each in order; then `scores`."""

    def __init__(
        self,
        work: RenderWork,
        plan: PlanFile,
        picture: PictureFormat,
        voice: Lane | None,
        nets: Callable[[], FaceNets],
    ) -> None:
        self._work, self._plan, self._picture, self._nets = work, plan, picture, nets
        self._pastes = work.spec.kind is Kind.DUB
        self._hears = voice is not None and bool((voice.weight_N != 0).all())
        run = plan.videos[SOURCE].run
        shown = plan.timeline.source_index[work.span.start : work.span.stop]
        self._faced = np.array([not self._pastes or run[index] >= 0 for index in shown], bool)
        rate = float(plan.frame_rate)
        self._wanted = looked_at(self._faced, round(LOOK_S * rate), round(SPACING_S * rate))
        self._short = max(3, round(_SHORT_S * rate))
        self._points: dict[int, NDArray[np.float32]] = {}
        self._source_points: dict[int, NDArray[np.float32]] = {}
        self._identity: list[float] = []
        self._border: list[float] = []
        self._looked = self._present = 0
        self._black = 0
        self._generated = self._frozen = 0
        self._last: tuple[int, torch.Tensor, torch.Tensor] | None = None

    def generated(self, outputs: Span, motion_NM: torch.Tensor, image_N3SS: torch.Tensor) -> None:
        """OutputCheckFailed for pictures that are none: not finite, or of one colour."""
        if not bool(torch.isfinite(image_N3SS).all()):
            raise OutputCheckFailed(f"the generator made no numbers in frames {outputs.start} to {outputs.stop}")
        if float(image_N3SS.flatten(1).std(1).amin()) < _BLANK:
            raise OutputCheckFailed(f"the generator made an empty picture in frames {outputs.start} to {outputs.stop}")
        for k, style, image in zip(range(outputs.start, outputs.stop), motion_NM, image_N3SS, strict=True):
            if self._last is not None and self._last[0] == k - 1:
                moved = float((style - self._last[1]).abs().amax()) > _SAME_CODES
                self._frozen += moved and bool((image == self._last[2]).all())
            self._last = (k, style, image)
            self._generated += 1

    def composed(
        self,
        outputs: Span,
        source: Sequence[int],
        before: Sequence[Frame],
        after: Sequence[Frame],
        jaw_NJ2: NDArray[np.float32] | None = None,
    ) -> None:
        """before: the source's frames, () for a still; after: those that will be encoded; jaw: as they were pasted."""
        first = self._work.span.start
        for old, new in zip(before, after, strict=False):
            self._black += is_black(self._glance(new), self._picture.full_range) and not is_black(
                self._glance(old), self._picture.full_range
            )
        rows = [n for n in range(len(outputs)) if self._wanted[outputs.start + n - first]]
        if not rows:
            return
        at = [source[n] for n in rows]
        seen = self._look([after[n] for n in rows], at)
        compared = [i for i, n in enumerate(rows) if before and (outputs.start + n) % COMPARED == 0]
        own = self._look([before[n] for n in rows], at) if before else None
        for i, n in enumerate(rows):
            self._looked += 1
            if seen.score[i] < PRESENT:
                continue
            self._present += 1
            self._points[outputs.start + n] = seen.points[i]
            if own is not None:
                self._source_points[outputs.start + n] = own.points[i]
        if compared and own is not None:
            a, b = likeness.describe(own), likeness.describe(seen)
            for i in compared:
                if seen.score[i] >= PRESENT:
                    self._identity.append(max(0.0, 1 - likeness.distance(a[i], b[i])))
                self._border.append(
                    self._border_of(before[n := rows[i]], after[n], at[i], None if jaw_NJ2 is None else jaw_NJ2[[n]])
                )

    def scores(self) -> dict[str, float]:
        """OutputCheckFailed where the chunk is black or frozen."""
        frames = len(self._work.span)
        found: dict[str, float] = {"face_found": float(self._faced.mean()), "black": self._black / frames}
        if self._generated:
            found["frozen"] = self._frozen / self._generated
        if self._looked:
            found["landmarks"] = self._present / self._looked
        for name, values in (("identity", self._identity), ("border_error", self._border)):
            if values:
                found[name] = float(np.mean(values))
        stretches = consecutive(sorted(self._points), self._short)
        if (jitter := self._jitter(stretches)) is not None:
            found["jitter"] = jitter
        if self._hears and (agreement := self._agreement(stretches)) is not None:
            found["lip_agreement"] = agreement
        if found["black"] > _MOST_BLACK:
            raise OutputCheckFailed(f"{self._black} of {frames} frames are black where the source is not")
        if found.get("frozen", 0.0) > _MOST_FROZEN:
            raise OutputCheckFailed(f"{self._frozen} of {self._generated} generated frames are the one before")
        return found

    def _glance(self, frame: Frame) -> NDArray[np.float32]:
        return glance(frame.y, self._picture.bit_depth)

    def _look(self, frames: Sequence[Frame], source: Sequence[int]) -> Landmarks:
        nets = self._nets()
        x, y, side = FACE
        if self._pastes:
            frame_from_crop = invert(np.asarray(self._plan.videos[SOURCE].crop_from_frame[list(source)]))
        else:
            scale = self._picture.width / 224
            frame_from_crop = np.tile(np.array([[scale, 0, 0], [0, scale, 0]]), (len(frames), 1, 1))
        centre = apply(frame_from_crop, np.array([[[x, y]]]))[:, 0]
        turn = frame_from_crop[:, 0, 0] + 1j * frame_from_crop[:, 1, 0]
        parts = [centre, np.abs(turn)[:, None] * side, np.angle(turn)[:, None]]
        squares = np.concatenate(parts, 1).astype(np.float64)
        pictures = FramePictures(frames, self._picture, nets.device)
        points, score, crops = see(nets, pictures, range(len(frames)), squares, iris=False)
        return Landmarks(points.cpu().numpy(), score.cpu().numpy(), crops)

    def _border_of(self, before: Frame, after: Frame, index: int, jaw_1J2: NDArray[np.float32] | None) -> float:
        video, device = self._plan.videos[SOURCE], self._nets().device
        place, points = np.asarray(video.crop_from_frame[[index]]), np.asarray(video.points[[index]])
        mask = composite.mask(self._picture, place, points, np.ones(1, bool), device, jaw_1J2)
        old, new = (to_device([frame], self._picture, device) for frame in (before, after))
        return float(border_error(old, new, mask.luma_BHW)[0])

    def _jitter(self, stretches: Sequence[Sequence[int]]) -> float | None:
        values: list[float] = []
        for stretch in stretches:
            own = jumps(self._points, stretch)
            of_source = jumps(self._source_points, stretch) if self._source_points else np.zeros(1)
            values.append(max(0.0, float(own.mean()) - float(of_source.mean())))
        return 100 * float(np.mean(values)) if values else None

    def _agreement(self, stretches: Sequence[Sequence[int]]) -> float | None:
        plan, values = self._plan, []
        total = audio.length(self._work.speech)
        for stretch in stretches:
            time_s = np.array([float(plan.timeline.time_s(k)) for k in stretch])
            start, stop = speaking.stretch(time_s)
            voice = audio.read(self._work.speech, max(0, start), max(0, min(stop, total)))
            if speaking.is_speech(voice, plan.voice_rms):
                heard = speaking.expected(voice, max(0, start), plan.voice_rms, time_s)
                points = np.stack([layout.kept(self._points[k]) for k in stretch])[..., :2]
                anchors = np.stack([layout.anchors(self._points[k]) for k in stretch])
                values.append(speaking.agreement(speaking.mouth(points, anchors), heard, time_s))
        return float(np.mean(values)) if values else None


def verdict(
    scores: dict[str, float], work: RenderWork, *, is_trained: bool
) -> tuple[dict[str, float], tuple[str, ...]]:
    """(scores, flags). OutputCheckFailed where a limit is broken and another attempt may do better.

    A bundle that was never trained makes no faces: nothing is asked of it.
    """
    found = flags(scores, work.quality) if is_trained else ()
    if found and work.quality.on_breach is OnBreach.RERENDER and work.may_rerender:
        said = ", ".join(f"{name} ({scores[name.rpartition('_')[0]]:g})" for name in found)
        raise OutputCheckFailed(f"scores beyond the limits of DUBFARM_QUALITY: {said}")
    return scores, found


def looked_at(faced_N: NDArray[np.bool_], length: int, spacing: int) -> NDArray[np.bool_]:
    """Which frames of a chunk are looked at: in every `spacing` of them the first `length` in a row with the face, or
    the longest row there is."""
    wanted = np.zeros(len(faced_N), bool)
    for start in range(0, len(faced_N), spacing):
        best: Sequence[int] = ()
        for row in consecutive((np.flatnonzero(faced_N[start : start + spacing]) + start).tolist(), 1):
            if len(row) > len(best):
                best = row
            if len(best) >= length:
                break
        wanted[list(best[:length])] = True
    return wanted


def consecutive(numbers: Sequence[int], shortest: int) -> list[list[int]]:
    """Rows of numbers without a gap, those of at least `shortest`."""
    rows: list[list[int]] = []
    for number in numbers:
        if rows and rows[-1][-1] == number - 1:
            rows[-1].append(number)
        else:
            rows.append([number])
    return [row for row in rows if len(row) >= shortest]


def jumps(points: dict[int, NDArray[np.float32]], stretch: Sequence[int]) -> NDArray[np.float64]:
    """How far the firm points are from the middle of where they were and will be, in distances between the eyes."""
    track = np.stack([points[k][:, :2] for k in stretch]).astype(np.float64)
    eyes = np.linalg.norm(track[:, 33] - track[:, 263], axis=-1).mean()
    firm = track[:, list(_FIRM)]
    return np.linalg.norm(firm[1:-1] - (firm[:-2] + firm[2:]) / 2, axis=-1).mean(1) / max(eyes, 1e-6)
