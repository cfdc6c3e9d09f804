"""Memory of scoring and delivering at the resolutions of ImageNet: batch-norm recalibration, then counting.

`python -m benchmarks.evaluation_memory --space ofa-mbv3 --resolution 224` makes pictures of
noise, scores some networks of a supernet with random weights in a process of its own, the largest among them,
recalibrates one that was cut out, as a delivery does, and prints JSON. Wanted: at most 2 GiB at the peak.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from typing import Any

import numpy as np

from benchmarks.environment import environment
from benchmarks.image_folder import peak_mib

CLASSES = 10


def measured(space_name: str, resolution: int, networks: int, train: int, validation: int) -> dict[str, Any]:
    """Seconds and memory of this process, which should have done nothing else before."""
    import torch  # noqa: PLC0415 - its memory is part of what is measured

    from supernets.cut_out import cut_out  # noqa: PLC0415
    from supernets.data.splits import Dataset, Split  # noqa: PLC0415
    from supernets.network import Supernet  # noqa: PLC0415
    from supernets.spaces.catalog import space_named  # noqa: PLC0415
    from supernets.training.batchnorm import calibration_batches, recalibrate  # noqa: PLC0415
    from supernets.training.evaluation import Evaluator  # noqa: PLC0415
    from supernets.training.memory import samples_of_space  # noqa: PLC0415

    space = space_named(space_name).with_classes(CLASSES)
    before_mib = peak_mib()
    generator = np.random.default_rng(0)

    def split(samples: int) -> Split:
        images = generator.integers(0, 256, size=(samples, *space.input_shape(resolution)), dtype=np.uint8)
        return Split(images, np.arange(samples) % CLASSES)

    dataset = Dataset(
        "noise", tuple(map(str, range(CLASSES))), split(train), split(validation), split(CLASSES)
    )
    supernet = Supernet(space, generator=torch.Generator().manual_seed(0)).eval()
    pictures_mib = peak_mib()
    asked = [space.largest(resolution), *space.at([resolution]).sample(generator, networks - 1)]
    start = time.perf_counter()
    Evaluator(supernet, dataset).qualities(asked)
    scored_s, scored_mib = time.perf_counter() - start, peak_mib()
    at_once = samples_of_space(space, resolution)
    recalibrate(cut_out(supernet, asked[0]), calibration_batches(dataset, resolution, at_once=at_once))
    return {
        "samples_at_once": at_once,
        "scoring_s": scored_s,
        "before_mib": before_mib,
        "with_pictures_mib": pictures_mib,
        "scoring_peak_mib": scored_mib,
        "peak_mib": peak_mib(),
    }


def main() -> None:
    """Measure in a child, print JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--space", default="ofa-mbv3")
    parser.add_argument("--resolution", type=int, default=224)
    parser.add_argument("--networks", type=int, default=2)
    parser.add_argument("--train", type=int, default=600, help="training images; 446 of 224 pixels calibrate")
    parser.add_argument("--validation", type=int, default=200)
    parser.add_argument("--measure", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    sizes = {name: getattr(given, name) for name in ("resolution", "networks", "train", "validation")}
    if given.measure:
        print(json.dumps(measured(given.space, **sizes)))
        return
    again = [sys.executable, "-m", "benchmarks.evaluation_memory", *sys.argv[1:], "--measure"]
    done = subprocess.run(again, check=True, capture_output=True, text=True)
    print(
        json.dumps(
            {"environment": environment(), "space": given.space, **sizes, **json.loads(done.stdout)}, indent=2
        )
    )


if __name__ == "__main__":
    main()
