"""Videos that a chunk leaves open where its frames end, for the chunk that follows it."""

from __future__ import annotations

from pathlib import Path

from workers.reading import Reader


class Shelf:
    """Of one job at a time: whoever asks for another's closes them. Not for two threads at once."""

    def __init__(self) -> None:
        self._job: str | None = None
        self._left: dict[int, Reader] = {}

    def take(self, job: str, number: int, path: Path) -> Reader | None:
        """Video `number` of the job, now found at `path`; None when it was not left."""
        if job != self._job:
            self.clear()
            self._job = job
        reader = self._left.pop(number, None)
        if reader is not None:
            reader.moved(path)
        return reader

    def leave(self, job: str, number: int, reader: Reader) -> None:
        if job != self._job or number in self._left:
            reader.close()
        else:
            self._left[number] = reader

    def clear(self) -> None:
        while self._left:
            self._left.popitem()[1].close()
        self._job = None
