"""What can be said of a submission without asking anybody, and where in API.md's body each of its media stands."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

from farm.domain.batch import BatchSpec
from farm.domain.factor import Drive, Factor, Factors, FactorSetting, Media
from farm.domain.job import FaceChoice, JobSpec, Kind
from farm.errors import Problem

MAX_ITEMS = 10_000
MAX_SEGMENTS = 200


def media_of(item: JobSpec) -> Iterator[tuple[str, Media]]:
    """Every media of an item with its JSON pointer below the item, as the user wrote it."""
    yield ("/video" if item.kind is Kind.DUB else "/image"), item.source
    yield "/audio", item.voice
    yield from _drivers_of(item.factors, "")
    for number, segment in enumerate(item.segments):
        yield from _drivers_of(segment.factors, f"/segments/{number}", item.factors)
    if item.face.choice is FaceChoice.REFERENCE and item.face.reference is not None:
        yield "/face/reference", item.face.reference


def _drivers_of(factors: Factors, pointer: str, known: Factors | None = None) -> Iterator[tuple[str, Media]]:
    """The driving videos of the settings that are not already in `known`."""
    before = dict(known.items()) if known is not None else {}
    for factor, setting in factors.items():
        if setting == before.get(factor):
            continue
        if factor is Factor.BLINK and setting == factors.gaze:
            continue  # both came from "eye"
        name = "eye" if factor is Factor.GAZE and setting == factors.blink else factor.value
        for k, driver in enumerate(setting.drivers):
            blend = f"/blend/{k}" if setting.drive is Drive.BLEND else ""
            yield f"{pointer}/factors/{name}{blend}/video", driver.media


def problems(spec: BatchSpec) -> list[Problem]:
    """What is wrong with the submission by itself."""
    found: list[Problem] = []
    if not 1 <= len(spec.items) <= MAX_ITEMS:
        found.append(Problem("item_count", f"a batch has 1 to {MAX_ITEMS} items, not {len(spec.items)}", "/items"))
    if not 0 <= spec.priority <= 100:
        found.append(Problem("priority_out_of_range", f"priority is 0 to 100, not {spec.priority}", "/priority"))
    first: dict[str, int] = {}
    for k, item in enumerate(spec.items):
        earlier = first.setdefault(item.custom_id, k)
        if earlier != k:
            detail = f"custom_id {item.custom_id!r} is that of item {earlier} too"
            found.append(Problem("custom_id_repeated", detail, f"/items/{k}/custom_id"))
        found += (Problem(p.code, p.detail, f"/items/{k}{p.pointer}") for p in _item_problems(item))
    return found


def _item_problems(item: JobSpec) -> Iterator[Problem]:
    for pointer, media in media_of(item):
        if (media.uri is None) == (media.asset_id is None):
            yield Problem("media_reference", "give either uri or asset_id", pointer)
    for factor, setting in item.factors.items():
        yield from _factor_problems(factor, setting, f"/factors/{factor.value}")
    yield from _segment_problems(item)


def _segment_problems(item: JobSpec) -> Iterator[Problem]:
    if len(item.segments) > MAX_SEGMENTS:
        yield Problem("segment_count", f"at most {MAX_SEGMENTS} segments, not {len(item.segments)}", "/segments")
    for k, segment in enumerate(item.segments):
        pointer = f"/segments/{k}"
        if not 0 <= segment.start_s < segment.stop_s:
            detail = f"from {segment.start_s:g} s to {segment.stop_s:g} s is no stretch of time"
            yield Problem("segment_empty", detail, pointer)
        own = dict(item.factors.items())
        for factor, setting in segment.factors.items():
            if setting != own[factor]:  # else it has been looked at
                yield from _factor_problems(factor, setting, f"{pointer}/factors/{factor.value}")
    in_time = sorted(enumerate(item.segments), key=lambda numbered: (numbered[1].start_s, numbered[0]))
    for (k, before), (number, after) in pairwise(in_time):
        if after.start_s < before.stop_s:
            detail = f"it starts at {after.start_s:g} s, before segment {k} ends at {before.stop_s:g} s"
            yield Problem("segments_overlap", detail, f"/segments/{number}")


def _factor_problems(factor: Factor, setting: FactorSetting, pointer: str) -> Iterator[Problem]:
    if setting.drive is Drive.AUDIO and factor is not Factor.LIP:
        yield Problem("factor_drive", f"audio drives the lips only, not {factor}", pointer)
    if setting.drive is Drive.BLEND and factor is not Factor.EXPRESSION:
        yield Problem("factor_drive", f"only the expression can be blended, not {factor}", pointer)
    wanted = {Drive.VIDEO: (1, 1), Drive.BLEND: (1, 16)}.get(setting.drive, (0, 0))
    if not wanted[0] <= len(setting.drivers) <= wanted[1]:
        yield Problem("factor_drivers", f"{setting.drive} takes {wanted[0]} to {wanted[1]} videos", pointer)
