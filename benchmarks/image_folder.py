"""A large folder of pictures: seconds to index it and to the first batch, and the memory that takes.

`python -m benchmarks.image_folder --files 200000 --size 224` makes such a folder (hard links to some hundred
pictures of noise, so that the disk holds it), loads it in a process of its own as a training does, and prints
JSON. Wanted: at most 2 GiB at the peak, and at most 10 s from the end of indexing to the first batch.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.environment import environment

DISTINCT = 256


def make_folder(folder: Path, files: int, classes: int, size: int) -> None:
    """That many JPEG files of noise with some structure, spread over the classes."""
    from PIL import Image  # noqa: PLC0415 - the measured process loads it itself

    generator = np.random.default_rng(0)
    kinds = folder.parent / "distinct"
    kinds.mkdir()
    for number in range(min(DISTINCT, files)):
        coarse = generator.integers(0, 256, size=(12, 12, 3)).astype(np.uint8)
        Image.fromarray(coarse).resize((size + 32, size + 32)).save(kinds / f"{number}.jpg", quality=85)
    for title in range(classes):
        (folder / f"class-{title:04}").mkdir(parents=True)
    for number in range(files):
        place = folder / f"class-{number % classes:04}" / f"{number:07}.jpg"
        os.link(kinds / f"{number // classes % min(DISTINCT, files)}.jpg", place)


def measured(folder: Path, kept: Path, size: int, batch: int, batches: int) -> dict[str, Any]:
    """Seconds and memory of this process, which should have done nothing else before."""
    import torch  # noqa: PLC0415 - its memory is part of what is measured

    from supernets.data.catalog import load_dataset  # noqa: PLC0415
    from supernets.data.fingerprint import facts_of  # noqa: PLC0415
    from supernets.data.index import index_folder  # noqa: PLC0415
    from supernets.tasks.images import NormalisedImages  # noqa: PLC0415

    clock = [time.perf_counter()]

    def lap() -> float:
        clock.append(time.perf_counter())
        return clock[-1] - clock[-2]

    before_mib = peak_mib()
    index = index_folder("pictures", folder)
    index_s = lap()
    dataset = load_dataset("pictures", kept, {"pictures": str(folder)}, size=size, channels=3)
    load_s = lap()
    images = NormalisedImages(dataset, "train", torch.device("cpu"))
    order = torch.from_numpy(np.random.default_rng(0).permutation(len(dataset.train)))
    first, _ = images[order[:batch]]
    first_s = lap()
    for number in range(1, batches):
        _ = images[order[number * batch : (number + 1) * batch]]
    later_s = lap()
    peak = peak_mib()
    facts_of("pictures", folder, kept)
    return {
        "files": len(index.names),
        "classes": len(index.classes),
        "batch": list(first.shape),
        "index_s": index_s,
        "load_s": load_s,
        "first_batch_after_indexing_s": load_s + first_s - index_s,
        "images_per_s": batch * (batches - 1) / later_s if batches > 1 else None,
        "fingerprint_s": lap(),
        "before_mib": before_mib,
        "peak_mib": peak,
    }


def peak_mib() -> float:
    """Peak resident memory of this process in MiB."""
    found = re.search(
        r"^VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text(encoding="ascii"), re.MULTILINE
    )
    if found is None:
        raise RuntimeError("the kernel does not tell a process's memory here")
    return int(found[1]) / 1024


def main() -> None:
    """Make the folder, measure in a child, print JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--files", type=int, default=200_000)
    parser.add_argument("--classes", type=int, default=100)
    parser.add_argument("--size", type=int, default=224, help="side at which pictures are kept")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--batches", type=int, default=8)
    parser.add_argument("--folder", help="where to make it; a temporary folder otherwise")
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        place = Path(arguments.measure)
        found = measured(
            place / "pictures", place / "kept", arguments.size, arguments.batch, arguments.batches
        )
        print(json.dumps(found))
        return
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        make_folder(Path(folder) / "pictures", arguments.files, arguments.classes, arguments.size)
        again = [sys.executable, "-m", "benchmarks.image_folder", *sys.argv[1:], "--measure", folder]
        done = subprocess.run(again, check=True, capture_output=True, text=True)
    print(
        json.dumps(
            {"environment": environment(), "size": arguments.size, **json.loads(done.stdout)}, indent=2
        )
    )


if __name__ == "__main__":
    main()
