"""A slice of `make fuzz-media`, and what names other files: nobody may look at them, with or without a fence."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from farm.errors import Rejected
from farm.media import decode, probe
from tests import media_files
from tests.proofs import media_fuzz

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="inotify is Linux's")


def test_mutated_files_are_read_or_refused(tmp_path: Path) -> None:
    for part in ("corpus", "work"):
        (tmp_path / part).mkdir()
    canary = tmp_path / "canary"
    canary.write_text("nobody may read this")
    files = media_fuzz.corpus(tmp_path / "corpus")
    with media_fuzz.watched(canary) as looks:
        outcomes = list(media_fuzz.run(files, 7, 100, tmp_path / "work", canary))
        assert [outcome for outcome in outcomes if outcome.verdict in ("FAULT", "media_reader_stalled")] == []
        assert looks() == 0
        canary.read_text()
        assert looks() > 0  # it would have been seen
    assert {"read", "media_truncated", "media_damaged"} <= {outcome.verdict for outcome in outcomes}


def references(folder: Path, canary: Path) -> dict[str, Path]:
    """Files that name the canary in every way that libav knows to follow."""
    url = canary.as_uri()
    texts = {
        "hls": f"#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10.0,\n{url}\n#EXT-X-ENDLIST\n",
        "hls_key": f'#EXTM3U\n#EXT-X-KEY:METHOD=AES-128,URI="{url}"\n#EXTINF:10.0,\n{url}\n#EXT-X-ENDLIST\n',
        "concat": f"ffconcat version 1.0\nfile '{canary}'\n",
        "concat_bare": f"file '{canary}'\n",
        "subfile": f"#EXTM3U\n#EXTINF:10,\nsubfile,,start,0,end,10,,:{canary}\n",
        "dash": f'<?xml version="1.0"?>\n<MPD xmlns="urn:mpeg:dash:schema:mpd:2011"><BaseURL>{url}</BaseURL></MPD>\n',
        "smil": f'<smil><body><video src="{url}"/></body></smil>',
        "svg": f'<svg xmlns="http://www.w3.org/2000/svg"><image href="{url}"/></svg>',
        "sdp": f"v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=x\r\na=control:{url}\r\n",
        "pls": f"[playlist]\nFile1={canary}\n",
        "asx": f'<ASX><Entry><Ref href="{url}"/></Entry></ASX>',
        "quicktime": f'<?xml version="1.0"?><?quicktime type="x"?><embed src="{url}"/>',
        "vapoursynth": f"import vapoursynth\nopen({str(canary)!r})\n",
        "image_sequence": f"{canary.parent}/%*",
        "ffmetadata": f";FFMETADATA1\ntitle={url}\n",
        "lavfi": f"movie={canary}",
        "crypto": f"crypto:{canary}",
    }
    made: dict[str, Path] = {}
    for name, text in texts.items():
        for suffix in (".mp4", ".m3u8", ".txt"):
            made[f"{name}{suffix}"] = folder / f"{name}{suffix}"
            made[f"{name}{suffix}"].write_text(text)
    movie = media_files.video(folder / "a.mov", frames=3).read_bytes()
    at = movie.index(b"dref")
    assert movie[at + 12 : at + 20] == b"\0\0\0\x0curl "
    for name, kind, body in (("url", b"url ", url.encode() + b"\0"), ("alis", b"alis", alias(canary))):
        # A data reference to another file, instead of the flag that says: in this one.
        entry = (len(body) + 12).to_bytes(4, "big") + kind + b"\0\0\0\0" + body
        grown = len(entry) - 12
        data = bytearray(movie[: at + 12] + entry + movie[at + 24 :])
        for box in (b"moov", b"trak", b"mdia", b"minf", b"dinf", b"dref"):
            place = data.index(box) - 4
            data[place : place + 4] = (int.from_bytes(data[place : place + 4], "big") + grown).to_bytes(4, "big")
        made[f"dref_{name}"] = folder / f"dref_{name}.mov"
        made[f"dref_{name}"].write_bytes(data)
    return made


def alias(target: Path) -> bytes:
    """A Macintosh alias record (as libavformat's mov.c reads it) for a file beside the one that holds it."""
    name, path = target.name.encode(), str(target).encode()
    record = bytes(10) + bytes([0]) + bytes(27) + bytes(12) + bytes([len(name)]) + name.ljust(63, b"\0") + bytes(16)
    record += (1).to_bytes(2, "big") + (1).to_bytes(2, "big") + bytes(16)
    padded = path + b"\0" * (len(path) % 2)
    record += (2).to_bytes(2, "big") + len(path).to_bytes(2, "big") + padded
    return record + b"\xff\xff\0\0"


def test_no_other_file_is_looked_at_even_without_a_fence(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    canary = tmp_path / "in" / "canary.mov"
    media_files.video(canary, frames=3)
    codes: dict[str, str] = {}
    with media_fuzz.watched(canary) as looks:
        for name, path in references(tmp_path / "in", canary).items():
            for read in (lambda: probe.probe(path, media_fuzz.LIMITS), lambda: sum(1 for _ in decode.scan(path))):  # noqa: B023
                try:
                    read()
                    codes[name] = "read"
                except Rejected as error:
                    codes[name] = error.code
            assert looks() == 0, name
    for name in ("hls.mp4", "hls_key.txt", "concat.mp4", "subfile.mp4", "dash.mp4", "smil.mp4", "sdp.mp4", "asx.mp4"):
        assert codes[name] == "media_playlist_refused"
    assert set(codes.values()) <= {"media_playlist_refused", "media_not_recognised", "media_damaged", "read"}
    assert [name for name, code in codes.items() if code == "read" and not name.startswith("dref")] == []
