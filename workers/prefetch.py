"""Bundles that an alias is about to name come here, are checked and tried, beside the work; damaged ones come again."""

from __future__ import annotations

import shutil
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from typing import Final, TypeAlias

from farm import log
from farm.domain.alias import BundleNote, BundleState, WantedBundle
from farm.errors import Transient
from workers.inputs import Inputs
from workers.reasons import Failed
from workers.work import BundleFolder

logger = log.get(__name__)

NOTES_KEPT: Final = 8
TRIAL_REST_S: Final = 30.0
Trial: TypeAlias = Callable[[BundleFolder, threading.Event], str | None]


class Prefetch:
    """One bundle at a time, in a thread of its own that lives as long as there is something to bring.

    changed: called when a note has changed, from any thread. What fails is tried again when it is wanted again. trial:
    why a bundle is of no use, None where it is of use; raises where this machine cannot tell; ends early once the event
    is set.
    """

    def __init__(self, inputs: Inputs, changed: Callable[[], None], trial: Trial) -> None:
        self._inputs, self._changed, self._trial = inputs, changed, trial
        self._lock = threading.Lock()
        self._notes: OrderedDict[str, BundleNote] = OrderedDict()
        self._due: OrderedDict[str, WantedBundle] = OrderedDict()
        self._thread: threading.Thread | None = None
        self._stopping = threading.Event()
        self._rests_until = 0.0

    @property
    def notes(self) -> Mapping[str, BundleNote]:
        """By version, how it stands with the files that were asked for or found damaged last."""
        with self._lock:
            return dict(self._notes)

    def want(self, bundles: Iterable[WantedBundle]) -> None:
        """Returns at once. What is here and checked, of no use, or on its way, is not brought again."""
        for bundle in bundles:
            note = self.notes.get(bundle.version_id)
            if note is None or (note.state is BundleState.FAILED and time.monotonic() >= self._rests_until):
                self._bring(bundle, "")

    def useless(self, bundle: WantedBundle, why: str) -> None:
        """Say so of a bundle that a job met without a trial."""
        with self._lock:
            self._note(bundle, BundleState.UNUSABLE, why[:500])
        self._changed()

    def damaged(self, bundle: WantedBundle, why: str) -> None:
        """Its files here are not what they should be: check each, and fetch those again. Returns at once."""
        logger.warning("a bundle's files are damaged here, fetching them again", version=bundle.version_id, why=why)
        self._bring(bundle, why)

    def stop(self) -> None:
        """Nothing further; what is on its way ends by itself, unheeded."""
        self._stopping.set()
        with self._lock:
            self._due.clear()

    def _bring(self, bundle: WantedBundle, why: str) -> None:
        with self._lock:
            if self._stopping.is_set():
                return
            self._due[bundle.version_id] = bundle
            self._note(bundle, BundleState.FETCHING, why)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="prefetch", daemon=True)
                self._thread.start()
        self._changed()

    def _run(self) -> None:
        while True:
            with self._lock:
                if not self._due:
                    self._thread = None
                    return
                _, bundle = self._due.popitem(last=False)
                why = self._notes[bundle.version_id].detail
            try:
                state, detail = self._brought(bundle, why)
            except Exception as error:
                logger.warning("a bundle was not brought", version=bundle.version_id, error=str(error))
                state, detail = BundleState.FAILED, str(error)
            with self._lock:
                self._note(bundle, state, detail[:500])
            self._changed()

    def _brought(self, bundle: WantedBundle, why: str) -> tuple[BundleState, str]:
        fetched = self._inputs.check_bundle(bundle.key, bundle.sha256)
        scratch = self._inputs.scratch()
        try:
            fault = self._trial(self._inputs.bundle(bundle.key, bundle.sha256, scratch), self._stopping)
        except Failed as failed:
            fault = str(failed)
        except Transient:
            # A trial is dearer than a look at files: the machine is left alone for a while.
            self._rests_until = time.monotonic() + TRIAL_REST_S
            raise
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
        if fault is not None:
            logger.error("a bundle is of no use", version=bundle.version_id, why=fault)
            return BundleState.UNUSABLE, fault
        return BundleState.READY, f"fetched again: {why}" if why and fetched else ""

    def _note(self, bundle: WantedBundle, state: BundleState, detail: str) -> None:
        self._notes[bundle.version_id] = BundleNote(state, detail)
        self._notes.move_to_end(bundle.version_id)
        while len(self._notes) > NOTES_KEPT:
            self._notes.popitem(last=False)
