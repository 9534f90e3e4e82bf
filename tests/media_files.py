"""Small media files for tests, made on the spot: every odd thing a user may send, with what is true of it.

Frame k of every video shows `picture_of(k)`: a moving pattern and k itself as a row of black and white squares, so that
`number_of` can tell which frame an encoded picture is.
"""

from __future__ import annotations

import subprocess
import zlib
from collections.abc import Callable, Sequence
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Any

import av
import imageio_ffmpeg
import numpy as np
from av.audio.frame import AudioFrame
from av.video.frame import VideoFrame
from numpy.typing import NDArray

import farm.cli

BITS = 10
SQUARE = 8
ACTOR = Path(farm.cli.__path__[0]) / "demo_material" / "actor.mp4"


def picture_of(number: int, width: int, height: int) -> NDArray[np.uint8]:
    """RGB (height, width, 3): soft moving shapes; below them `number` in BITS squares, lowest bit first."""
    y, x = np.mgrid[0:height, 0:width].astype(np.float64)
    turn = number / 12
    red = 128 + 80 * np.sin(x / 17 + turn)
    green = 128 + 80 * np.cos(y / 13 - turn)
    blue = 128 + 60 * np.sin((x + y) / 29 + 2 * turn)
    return _numbered(np.stack([red, green, blue], -1).round().astype(np.uint8), number)


def actor_of(number: int, width: int, height: int) -> NDArray[np.uint8]:
    """As `picture_of`, with a drawn man who speaks in the middle: a face that is really found and followed."""
    pictures = _actor(width, height)
    return _numbered(pictures[number % len(pictures)].copy(), number)


def pair_of(number: int, width: int, height: int) -> NDArray[np.uint8]:
    """The drawn man twice, side by side; the right one is ahead in what he says."""
    pictures = _actor(width // 2, height)
    return _numbered(
        np.concatenate([pictures[number % len(pictures)], pictures[(number + 5) % len(pictures)]], 1), number
    )


@cache
def _actor(width: int, height: int) -> list[NDArray[np.uint8]]:
    with av.open(str(ACTOR)) as container:
        stream = container.streams.video[0]
        whole = stream.width, stream.height
        cut = min(whole[0], round(whole[1] * width / height))
        scaled = round(whole[0] * width / cut)
        left = (scaled - width) // 2
        pictures = [frame.to_ndarray(width=scaled, height=height, format="rgb24") for frame in container.decode(stream)]
    return [np.ascontiguousarray(picture[:, left : left + width]) for picture in pictures]


def _numbered(image: NDArray[np.uint8], number: int) -> NDArray[np.uint8]:
    for bit in range(BITS):
        image[:SQUARE, bit * SQUARE : (bit + 1) * SQUARE] = 235 if number >> bit & 1 else 16
    return image


def number_of(y: NDArray[Any]) -> int:
    """The number in a luma plane that is shown upright (8 or 10 bits)."""
    middle = 128 if y.dtype == np.uint8 else 512
    half = SQUARE // 2
    return sum(int(y[half, bit * SQUARE + half] > middle) << bit for bit in range(BITS))


def video(
    path: Path,
    *,
    frames: int = 30,
    width: int = 128,
    height: int = 96,
    picture: Callable[[int, int, int], NDArray[np.uint8]] = picture_of,
    rate: Fraction = Fraction(25),
    pts: Sequence[int] | None = None,
    time_base: Fraction | None = None,
    codec: str = "libx264",
    pixel_format: str = "yuv420p",
    rotation: int = 0,
    sample_aspect: Fraction = Fraction(1),
    full_range: bool = False,
    colors: tuple[int, int, int] = (2, 2, 2),
    interlaced: bool = False,
    gop: int = 12,
    b_frames: int = 2,
    options: dict[str, str] | None = None,
    audio_s: float = 0.0,
) -> Path:
    """A video of `frames` pictures at `path` (the suffix picks the container), each `picture(number, width, height)`.

    pts: ticks of `time_base` for a changing rate; else frame k is shown at k / rate. rotation: clockwise degrees that
    players turn it by; `picture` is what they then show, so the coded picture is turned the other way.
    colors: H.273 numbers of matrix, primaries, transfer. audio_s: seconds of a tone beside it (AAC, 48 kHz stereo).
    """
    tick = time_base or 1 / rate
    settings = {"crf": "16", "preset": "ultrafast", "bf": str(b_frames)} if codec in ("libx264", "libx265") else {}
    if codec == "libx264":
        settings["x264-params"] = f"threads=1:scenecut=0:bframes={b_frames}" + (":tff=1" if interlaced else "")
    if codec == "libx265":
        # Where frames are fewer than its look-ahead, x265 leaves the dts of reordered ones unset.
        settings["x265-params"] = f"log-level=none:bframes={b_frames if frames > 30 else 0}"
    settings |= options or {}
    container_options = {"video_track_timescale": str(tick.denominator)} if path.suffix in (".mp4", ".mov") else {}
    turned = rotation in (90, 270)
    with av.open(str(path), "w", container_options=container_options) as out:
        stream: Any = out.add_stream(codec, rate=rate, options=settings)
        stream.width, stream.height = (height, width) if turned else (width, height)
        stream.pix_fmt = pixel_format
        context = stream.codec_context
        context.time_base, context.gop_size, context.thread_count = tick, gop, 1
        context.sample_aspect_ratio = sample_aspect
        context.color_range = 2 if full_range else 1
        context.colorspace, context.color_primaries, context.color_trc = colors
        if rotation:
            stream.set_display_rotation(-rotation)
        sound: Any = out.add_stream("aac", rate=48_000, layout="stereo") if audio_s else None
        for k in range(frames):
            image = np.ascontiguousarray(np.rot90(picture(k, width, height), rotation // 90))
            frame = VideoFrame.from_ndarray(image, "rgb24").reformat(
                format=pixel_format,
                dst_colorspace=1 if colors[0] == 1 else 5,
                dst_color_range=2 if full_range else 1,
            )
            frame.pts, frame.time_base = (pts[k] if pts is not None else k), tick
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
        if sound is not None:
            _encode(out, sound, wave_of(audio_s, 48_000, 2), 48_000, "stereo")
    return path


def wave_of(seconds: float, rate: int, channels: int, start_s: float = 0.0) -> NDArray[np.float32]:
    """(channels, samples): a 440 Hz tone with a click (a 1 ms burst) every half second from `start_s` on."""
    samples = round(seconds * rate)
    at = np.arange(samples) / rate
    tone = 0.2 * np.sin(2 * np.pi * 440 * at)
    click = np.where(((at - start_s) % 0.5 < 0.001) & (at >= start_s), 0.7, 0.0)
    return np.tile((tone + click).astype(np.float32), (channels, 1))


def audio(
    path: Path,
    *,
    seconds: float = 2.0,
    rate: int = 48_000,
    layout: str = "mono",
    codec: str = "pcm_s16le",
    samples: NDArray[np.float32] | None = None,
) -> Path:
    """A sound file: `samples` (channels, N), or else `wave_of`. codec: pcm_s16le, aac, libmp3lame, libopus or flac."""
    with av.open(str(path), "w") as out:
        stream: Any = out.add_stream(codec, rate=rate, layout=layout)
        channels = stream.codec_context.layout.nb_channels
        _encode(out, stream, wave_of(seconds, rate, channels) if samples is None else samples, rate, layout)
    return path


def _encode(out: Any, stream: Any, samples: NDArray[np.float32], rate: int, layout: str) -> None:
    form = stream.codec_context.format.name
    resampler = av.AudioResampler(format=form, layout=layout, rate=rate)
    for at in range(0, samples.shape[1], 4096):
        block = AudioFrame.from_ndarray(np.ascontiguousarray(samples[:, at : at + 4096]), "fltp", layout)
        block.sample_rate, block.pts, block.time_base = rate, at, Fraction(1, rate)
        for part in resampler.resample(block):
            out.mux(stream.encode(part))
    out.mux(stream.encode(None))


def image(path: Path, *, width: int = 128, height: int = 96, pixel_format: str = "rgb24") -> Path:
    """`picture_of(0)` as png, jpg, webp or bmp."""
    codec = {".png": "png", ".jpg": "mjpeg", ".webp": "libwebp", ".bmp": "bmp"}[path.suffix]
    form = {".jpg": "yuvj420p", ".webp": "yuv420p", ".bmp": "bgr24"}.get(path.suffix, pixel_format)
    context: Any = av.CodecContext.create(codec, "w")
    context.width, context.height, context.pix_fmt, context.time_base = width, height, form, Fraction(1, 25)
    context.thread_count = 1
    frame = VideoFrame.from_ndarray(picture_of(0, width, height), "rgb24").reformat(format=form)
    frame.pts = 0
    path.write_bytes(b"".join(bytes(packet) for packet in (*context.encode(frame), *context.encode(None))))
    return path


def truncated(path: Path, dest: Path, keep: float = 0.6) -> Path:
    """The first part of a file, as a download that broke off leaves it."""
    data = path.read_bytes()
    dest.write_bytes(data[: int(len(data) * keep)])
    return dest


def faststart(path: Path, dest: Path) -> Path:
    """The same mp4 with its index in front, so that a truncated copy still opens."""
    return ffmpeg("-i", str(path), "-c", "copy", "-movflags", "+faststart", dest=dest)


def ffmpeg(*args: str, dest: Path) -> Path:
    """Whatever PyAV cannot make, by the ffmpeg command; `dest` comes last."""
    argv = [imageio_ffmpeg.get_ffmpeg_exe(), "-nostdin", "-loglevel", "error", "-y", *args, str(dest)]
    subprocess.run(argv, check=True, stdin=subprocess.DEVNULL, capture_output=True, timeout=300)
    return dest


def claims_frames(path: Path, dest: Path, count: int = 10**9) -> Path:
    """An mp4 whose index says that it has `count` frames of one byte."""
    data = bytearray(path.read_bytes())
    for box, at in ((b"stsz", 8), (b"stts", 12)):
        place = data.index(box) + at
        if box == b"stsz":
            data[place : place + 4] = (1).to_bytes(4, "big")
            place += 4
        data[place : place + 4] = count.to_bytes(4, "big")
    dest.write_bytes(data)
    return dest


def huge_picture(path: Path, side: int = 16384) -> Path:
    """A PNG of side x side black pixels in a few kilobytes."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return len(data).to_bytes(4, "big") + name + data + zlib.crc32(name + data).to_bytes(4, "big")

    packer = zlib.compressobj(9)
    row = bytes(1 + side // 8)  # one bit a pixel
    packed = b"".join([*(packer.compress(row) for _ in range(side)), packer.flush()])
    header = side.to_bytes(4, "big") * 2 + bytes((1, 0, 0, 0, 0))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", packed) + chunk(b"IEND", b""))
    return path


def renamed_text(path: Path) -> Path:
    """A text that calls itself a video."""
    path.write_text("This is no video, whatever its name says.\n" * 50)
    return path


def empty(path: Path) -> Path:
    path.write_bytes(b"")
    return path


def hls_playlist(path: Path, target: str = "file:///etc/passwd") -> Path:
    """A playlist that makes a careless ffmpeg open `target`."""
    path.write_text(f"#EXTM3U\n#EXT-X-MEDIA-SEQUENCE:0\n#EXTINF:10.0,\n{target}\n#EXT-X-ENDLIST\n")
    return path


def concat_script(path: Path, target: str = "/etc/passwd") -> Path:
    path.write_text(f"ffconcat version 1.0\nfile '{target}'\n")
    return path


def dash_manifest(path: Path) -> Path:
    path.write_text('<?xml version="1.0"?>\n<MPD xmlns="urn:mpeg:dash:schema:mpd:2011"><Period/></MPD>\n')
    return path
