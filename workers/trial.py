"""A bundle makes one picture before anything may name it: in a process of its own, which may end as it likes.

    python -m workers.trial FOLDER SHA256

Weights with the right hash may still be of no use: another network's, none at all, of sizes that do not fit together,
or with numbers that are none. Whoever rendered with them first would find out, in somebody's job.
"""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Final

from farm.domain.chunk import Reason
from farm.errors import Rejected, Transient
from workers.reasons import DAMAGED, failure_of
from workers.work import BundleFolder

REFUSED: Final = 65
"""Exit status of a trial that found the bundle of no use; why stands on its standard output."""
LONGEST_S: Final = 300.0
POLL_S: Final = 0.1


def fault_of(folder: BundleFolder, stopping: threading.Event) -> str | None:
    """Why no picture comes of these weights; None where one came.

    Raises Transient("bundle_untried") where this machine could not tell: no memory, no time, files that are damaged.
    """
    command = [sys.executable, "-m", "workers.trial", str(folder.folder), folder.sha256]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        deadline = time.monotonic() + LONGEST_S
        while process.poll() is None:
            if stopping.wait(POLL_S) or time.monotonic() > deadline:
                process.kill()
        said = "" if process.stdout is None else process.stdout.read().strip()
    if process.returncode == 0:
        return None
    last = said.rpartition("\n")[2]
    if process.returncode == REFUSED:
        return last
    raise Transient("bundle_untried", f"its trial ended with status {process.returncode}: {last}")


def picture(folder: BundleFolder) -> None:
    """Load the bundle and make a picture of nothing with it. Raises Rejected: what loading raises, bundle_useless."""
    import torch

    from farm.nets import bundle
    from farm.nets.ready import ready
    from farm.nets.style import motion

    torch.set_num_threads(1)
    loaded = ready(bundle.load(folder.folder, torch.device("cpu"), folder.sha256))
    sizes = loaded.sizes
    try:
        with torch.inference_mode():
            seen = torch.zeros(1, 3, sizes.image, sizes.image)
            scene = loaded.generator.prepare(*loaded.appearance(seen))
            codes = loaded.motion(seen)
            _, lip = loaded.audio(torch.zeros(1, 1, 80, 20))
            made = loaded.generator(motion(lip, codes.expression, codes.eye, codes.pose), scene)
    except (RuntimeError, ValueError, IndexError) as error:
        if failure_of(error).reason is Reason.OOM:
            raise
        raise Rejected("bundle_useless", f"its networks do not fit together: {error}") from error
    if not torch.isfinite(made.float()).all():
        raise Rejected("bundle_useless", "its picture holds values that are not finite")


def main() -> None:
    try:
        picture(BundleFolder(Path(sys.argv[1]), sys.argv[2]))
    except Rejected as error:
        if error.code in DAMAGED:
            raise
        print(" ".join(str(error).split())[:500])
        sys.exit(REFUSED)


if __name__ == "__main__":
    main()
