"""Writes golden_nets.npz: what ai-edge-litert says about seeded inputs (no face in them).

python -m venv /tmp/litert && /tmp/litert/bin/pip install ai-edge-litert==2.3.0 numpy
/tmp/litert/bin/python tests/farm/face/make_golden.py FOLDER_WITH_TFLITE_FILES
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

NETWORKS = {
    "finder_near": ("face_detection_short_range.tflite", 128),
    "finder_far": ("face_detection_full_range.tflite", 192),
    "mesh": ("face_landmark.tflite", 192),
    "iris": ("iris_landmark.tflite", 64),
}


def seeded_input(size: int, seed: int) -> np.ndarray:
    """(2, size, size, 3) in [0, 1]: white noise, then smooth blobs."""
    random = np.random.RandomState(seed)
    noise = random.uniform(0, 1, (size, size, 3))
    y, x = np.mgrid[0:size, 0:size] / size
    blobs = np.zeros((size, size, 3))
    for _ in range(12):
        cx, cy, r = random.uniform(0, 1), random.uniform(0, 1), random.uniform(0.05, 0.3)
        blobs += np.exp(-((x - cx) ** 2 + (y - cy) ** 2) / r**2)[..., None] * random.uniform(-1, 1, 3)
    smooth = 1 / (1 + np.exp(-2 * blobs))
    return np.stack([noise, smooth]).astype(np.float32)


if __name__ == "__main__":
    from ai_edge_litert.interpreter import Interpreter

    golden = {}
    for name, (file, size) in NETWORKS.items():
        network = Interpreter(str(Path(sys.argv[1]) / file))
        network.allocate_tensors()
        for case, image in enumerate(seeded_input(size, 7)):
            network.set_tensor(network.get_input_details()[0]["index"], image[None])
            network.invoke()
            for number, output in enumerate(network.get_output_details()):
                value = network.get_tensor(output["index"]).reshape(-1)
                golden[f"{name}.{case}.{number}"] = value[:: max(1, value.size // 1500)]
    np.savez_compressed(Path(__file__).parent / "golden_nets.npz", **golden)
