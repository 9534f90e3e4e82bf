"""What can be said of a submission without asking anybody, and where in API.md's body each of its media stands."""

from __future__ import annotations

from collections.abc import Iterator

from farm.domain.batch import BatchSpec
from farm.domain.factor import Drive, Factor, FactorSetting, Media
from farm.domain.job import FaceChoice, JobSpec, Kind
from farm.errors import Problem

MAX_ITEMS = 10_000


def media_of(item: JobSpec) -> Iterator[tuple[str, Media]]:
    """Every media of an item with its JSON pointer below the item, as the user wrote it."""
    yield ("/video" if item.kind is Kind.DUB else "/image"), item.source
    yield "/audio", item.voice
    factors = item.factors
    for factor, setting in factors.items():
        if factor is Factor.BLINK and setting == factors.gaze:
            continue  # both came from "eye"
        name = "eye" if factor is Factor.GAZE and setting == factors.blink else factor.value
        for k, driver in enumerate(setting.drivers):
            blend = f"/blend/{k}" if setting.drive is Drive.BLEND else ""
            yield f"/factors/{name}{blend}/video", driver.media
    if item.face.choice is FaceChoice.REFERENCE and item.face.reference is not None:
        yield "/face/reference", item.face.reference


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
        yield from _factor_problems(factor, setting)


def _factor_problems(factor: Factor, setting: FactorSetting) -> Iterator[Problem]:
    pointer = f"/factors/{factor.value}"
    if setting.drive is Drive.AUDIO and factor is not Factor.LIP:
        yield Problem("factor_drive", f"audio drives the lips only, not {factor}", pointer)
    if setting.drive is Drive.BLEND and factor is not Factor.EXPRESSION:
        yield Problem("factor_drive", f"only the expression can be blended, not {factor}", pointer)
    wanted = {Drive.VIDEO: (1, 1), Drive.BLEND: (1, 16)}.get(setting.drive, (0, 0))
    if not wanted[0] <= len(setting.drivers) <= wanted[1]:
        yield Problem("factor_drivers", f"{setting.drive} takes {wanted[0]} to {wanted[1]} videos", pointer)
