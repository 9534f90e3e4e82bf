"""Frozen dataclasses to plain JSON documents and back, for the columns and files that keep them.

A document is what `json.dumps` takes: fractions are "num/den", enums their values, tuples lists. Reading is strict: an
unknown or missing field raises ValueError, so that a changed noun is noticed rather than misread.
"""

from __future__ import annotations

import types
from collections.abc import Callable, Mapping
from dataclasses import MISSING, Field, fields, is_dataclass
from enum import Enum
from fractions import Fraction
from functools import cache
from typing import Any, Final, TypeVar, Union, get_args, get_origin, get_type_hints

T = TypeVar("T")

LATER: Final[Mapping[str, bool]] = {"later": True}
"""Metadata of a field that came with a later release: where it holds its default it is left out of the document, so
that a farm of the release before, still running during an upgrade, reads whatever does not use it."""


def to_document(value: object) -> Any:
    """The JSON document of a dataclass, or of anything that one is made of."""
    if value is None or isinstance(value, bool | int | float) or type(value) is str:
        return value
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, Fraction):
        return f"{value.numerator}/{value.denominator}"
    if (known := _fields(type(value))) is not None:
        kept = (field for field in known if not (field.metadata.get("later") and _is_default(value, field)))
        return {field.name: to_document(getattr(value, field.name)) for field in kept}
    if isinstance(value, Mapping):
        return {str(key): to_document(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [to_document(item) for item in value]
    raise TypeError(f"no document for {type(value).__name__}")


@cache
def _fields(kind: type) -> tuple[Field[Any], ...] | None:
    return fields(kind) if is_dataclass(kind) else None


def _is_default(value: object, field: Field[Any]) -> bool:
    default = field.default_factory() if field.default_factory is not MISSING else field.default
    return getattr(value, field.name) == default


def from_document(kind: type[T], document: Any) -> T:
    """The dataclass `kind` that `to_document` turned into `document`; ValueError where it is none."""
    return _reader(kind)(document)


_Reader = Callable[[Any], Any]


@cache
def _reader(kind: Any) -> _Reader:
    """What reads one kind of value: found once, since every claim reads the documents of its job."""
    origin = get_origin(kind)
    if origin in (Union, types.UnionType):
        (kind,) = (part for part in get_args(kind) if part is not types.NoneType)
        read = _reader(kind)
        return lambda document: None if document is None else read(document)
    if origin is tuple:
        parts = get_args(kind)
        readers = tuple(_reader(part) for part in parts if part is not Ellipsis)
        if len(parts) == 2 and parts[1] is Ellipsis:
            return lambda document: tuple(map(readers[0], document))
        return lambda document: tuple(read(item) for read, item in zip(readers, document, strict=True))
    if isinstance(origin, type) and issubclass(origin, Mapping):
        read_value = _reader(get_args(kind)[1])
        return lambda document: {key: read_value(item) for key, item in document.items()}
    if isinstance(kind, type) and is_dataclass(kind):
        return _dataclass_reader(kind)
    if kind is Fraction or kind is float or (isinstance(kind, type) and issubclass(kind, Enum)):
        return kind
    return lambda document: document


def _dataclass_reader(kind: type) -> _Reader:
    hints = get_type_hints(kind)
    readers = {field.name: _reader(hints[field.name]) for field in fields(kind)}
    required = {f.name for f in fields(kind) if f.default is MISSING and f.default_factory is MISSING}

    def read(document: Any) -> Any:
        if not isinstance(document, Mapping):
            raise ValueError(f"{kind.__name__}: not an object: {document!r}")
        names = document.keys()
        if not required <= names <= readers.keys():
            unknown, missing = sorted(names - readers.keys()), sorted(required - names)
            raise ValueError(f"{kind.__name__}: unknown {unknown}, missing {missing}")
        return kind(**{name: readers[name](item) for name, item in document.items()})

    return read
