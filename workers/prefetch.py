"""Bundles that an alias is about to name come here, and are checked, beside the work; damaged ones come again."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from typing import Final

from farm import log
from farm.domain.alias import BundleNote, BundleState, WantedBundle
from workers.inputs import Inputs

logger = log.get(__name__)

NOTES_KEPT: Final = 8


class Prefetch:
    """One bundle at a time, in a thread of its own that lives as long as there is something to bring.

    changed: called when a note has changed, from any thread. What fails is tried again when it is wanted again.
    """

    def __init__(self, inputs: Inputs, changed: Callable[[], None]) -> None:
        self._inputs, self._changed = inputs, changed
        self._lock = threading.Lock()
        self._notes: OrderedDict[str, BundleNote] = OrderedDict()
        self._due: OrderedDict[str, WantedBundle] = OrderedDict()
        self._thread: threading.Thread | None = None
        self._stopped = False

    @property
    def notes(self) -> Mapping[str, BundleNote]:
        """By version, how it stands with the files that were asked for or found damaged last."""
        with self._lock:
            return dict(self._notes)

    def want(self, bundles: Iterable[WantedBundle]) -> None:
        """Returns at once. What is here and checked, or on its way, is not brought again."""
        for bundle in bundles:
            note = self.notes.get(bundle.version_id)
            if note is None or note.state is BundleState.FAILED:
                self._bring(bundle, "")

    def damaged(self, bundle: WantedBundle, why: str) -> None:
        """Its files here are not what they should be: check each, and fetch those again. Returns at once."""
        logger.warning("a bundle's files are damaged here, fetching them again", version=bundle.version_id, why=why)
        self._bring(bundle, why)

    def stop(self) -> None:
        """Nothing further; what is on its way ends by itself, unheeded."""
        with self._lock:
            self._stopped = True
            self._due.clear()

    def _bring(self, bundle: WantedBundle, why: str) -> None:
        with self._lock:
            if self._stopped:
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
                fetched = self._inputs.check_bundle(bundle.key, bundle.sha256)
                state, detail = BundleState.READY, f"fetched again: {why}" if why and fetched else ""
            except Exception as error:
                logger.warning("a bundle was not brought", version=bundle.version_id, error=str(error))
                state, detail = BundleState.FAILED, str(error)
            with self._lock:
                self._note(bundle, state, detail[:500])
            self._changed()

    def _note(self, bundle: WantedBundle, state: BundleState, detail: str) -> None:
        self._notes[bundle.version_id] = BundleNote(state, detail)
        self._notes.move_to_end(bundle.version_id)
        while len(self._notes) > NOTES_KEPT:
            self._notes.popitem(last=False)
