"""Parts of safetensors blobs, read where they lie: the header, one tensor, one stretch of bytes."""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from farm.storage.blobs import BlobStore

_TYPES: Final = {"F32": np.float32, "I64": np.int64, "U8": np.uint8, "I16": np.int16}


@dataclass(frozen=True)
class Tensor:
    """Bytes [start, stop) of the blob."""

    dtype: str
    shape: tuple[int, ...]
    start: int
    stop: int


@dataclass(frozen=True)
class Header:
    key: str
    tensors: dict[str, Tensor]

    def array(self, store: BlobStore, name: str) -> NDArray[Any]:
        tensor = self.tensors[name]
        data = read(store, self.key, tensor.start, tensor.stop)
        return np.frombuffer(data, _TYPES[tensor.dtype]).reshape(tensor.shape)


def read(store: BlobStore, key: str, start: int, stop: int) -> bytes:
    return b"".join(store.read_range(key, start, stop))


def read_header(store: BlobStore, key: str) -> Header:
    (length,) = struct.unpack("<Q", read(store, key, 0, 8))
    told = json.loads(read(store, key, 8, 8 + length))
    base = 8 + length
    return Header(
        key,
        {
            name: Tensor(
                entry["dtype"], tuple(entry["shape"]), base + entry["data_offsets"][0], base + entry["data_offsets"][1]
            )
            for name, entry in told.items()
            if name != "__metadata__"
        },
    )
