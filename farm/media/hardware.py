"""Which codec does the work: the GPU's (NVENC, NVDEC) or the processor's, found by trying and then pinned in the plan.

An encoder is part of a job's plan, for segments of two encoders do not join to one stream. Hardware is used where the
operator says that the machines of a queue have it; what it cannot do (ten bits in H.264) the processor does, decided
once, when the job is planned. Decoding is exact either way and needs no rule.
"""

from __future__ import annotations

from collections.abc import Collection
from fractions import Fraction
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import av
from av.codec.hwaccel import HWAccel
from av.error import FFmpegError
from av.video.frame import VideoFrame

SOFTWARE: Final = {"h264": "libx264", "hevc": "libx265", "av1": "libsvtav1"}
HARDWARE: Final = {"h264": "h264_nvenc", "hevc": "hevc_nvenc", "av1": "av1_nvenc"}
DEVICE: Final = "cuda"
MOST_THREADS: Final = 8
SIDE: Final = 256
"""Of the pictures tried: encoders refuse smaller ones than about 160."""


def choose(video_codec: str, bit_depth: int, there: Collection[str]) -> str:
    """The encoder of a job. there: what `encoders` found, empty where hardware is not to be used."""
    hardware = HARDWARE[video_codec]
    return hardware if f"{hardware}/{bit_depth}" in there else SOFTWARE[video_codec]


def encoder_threads(cores: int, networks: int) -> int:
    """Of an encoder on the processor, for a job that is planned on a machine with so many cores, of which a network's
    call takes `networks`: half of them at most, for the stages before it need the others meanwhile."""
    return max(1, min(MOST_THREADS, networks, cores // 2))


def is_there(encoder: str, there: Collection[str]) -> bool:
    """Whether a job that was planned with this encoder can be rendered here."""
    return encoder in SOFTWARE.values() or any(name.startswith(f"{encoder}/") for name in there)


def pixel_format(encoder: str, bit_depth: int) -> str:
    """What the encoder takes for 4:2:0."""
    if bit_depth == 8:
        return "yuv420p"
    return "p010le" if encoder in HARDWARE.values() else "yuv420p10le"


def options(encoder: str, crf: int) -> dict[str, str]:
    """Of a hardware encoder: constant quality, GOPs that refer to nothing before them, no B frames as references."""
    if encoder not in HARDWARE.values():
        raise ValueError(f"{encoder} is no hardware encoder")
    out = {"preset": "p5", "rc": "vbr", "cq": str(min(crf, 51)), "b": "0", "forced-idr": "1", "b_ref_mode": "disabled"}
    return out | ({} if encoder == "av1_nvenc" else {"strict_gop": "1"})


def encoders() -> frozenset[str]:
    """`NAME/BITS` of the hardware encoders that encode a picture here, each tried; none where there is no such GPU."""
    return frozenset(
        f"{encoder}/{bits}"
        for codec, encoder in HARDWARE.items()
        for bits in (8, 10)
        if (codec, bits) != ("h264", 10) and _encodes(encoder, bits)
    )


def decodes() -> bool:
    """Whether the GPU decodes H.264 here, to the very samples that the processor decodes."""
    try:
        with TemporaryDirectory(prefix="try-") as folder:
            path = Path(folder) / "try.mp4"
            _write(path, SOFTWARE["h264"], "yuv420p", {})
            return _luma(path, None) == _luma(path, HWAccel(DEVICE, allow_software_fallback=False))
    except (FFmpegError, RuntimeError, ValueError, NotImplementedError, OSError):
        return False


def _encodes(encoder: str, bits: int) -> bool:
    try:
        with TemporaryDirectory(prefix="try-") as folder:
            path = Path(folder) / "try.mp4"
            _write(path, encoder, pixel_format(encoder, bits), options(encoder, 23))
            return len(_luma(path, None)) == 3
    except (FFmpegError, RuntimeError, ValueError, OSError):
        return False


def _write(path: Path, encoder: str, pix_fmt: str, settings: dict[str, str]) -> None:
    with av.open(str(path), "w", format="mp4") as out:
        stream: Any = out.add_stream(encoder, rate=25, options=settings)
        stream.codec_context.width = stream.codec_context.height = SIDE
        stream.codec_context.pix_fmt = pix_fmt
        stream.codec_context.time_base = Fraction(1, 25)
        for number in range(3):
            picture = VideoFrame(SIDE, SIDE, pix_fmt)
            for plane in picture.planes:
                plane.update(bytes((number + place) % 251 for place in range(plane.buffer_size)))
            picture.pts = number
            out.mux(stream.encode(picture))
        out.mux(stream.encode(None))


def _luma(path: Path, device: HWAccel | None) -> list[bytes]:
    with av.open(str(path), hwaccel=device) as container:
        return [bytes(memoryview(frame.reformat(format="gray").planes[0])) for frame in container.decode(video=0)]
