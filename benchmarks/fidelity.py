"""How exactly our networks are the published ones.

Once-for-all: the file (form of once_for_all_vectors.json.gz) names, for each published supernet, its state
dict's keys and shapes and the outputs of the published code for some sub-networks, all weights and the input
filled by one formula. Every sub-network is run as part of our supernet, as cut-out network and with its
batch-norm folded. `worst` is the largest difference of a logit in standard deviations of the published
logits; `parameters_equal` compares the cut-out networks'.

HAT: a file of the form of hat_vectors.json.gz is known by what it holds (`benchmarks.fidelity_transformers`).
There `worst` is the largest difference of a logit itself, and `beams_equal` compares decoded sentences.
"""

from __future__ import annotations

import argparse
import gzip
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks import fidelity_transformers
from benchmarks.environment import environment
from supernets.cut_out import cut_out, fold_batch_norm
from supernets.network import Supernet
from supernets.published_weights import from_published
from supernets.spaces.architecture import Architecture
from supernets.spaces.catalog import space_named
from supernets.spaces.published import architecture_from_lists
from supernets.spaces.space import Space

SPACE_NAMES = {"ofa-mbv3-w1.0": "ofa-mbv3", "ofa-proxyless-w1.3": "ofa-proxyless"}


def read_file(path: Path | str) -> dict[str, Any]:
    """A file of vectors, compressed or not."""
    raw = Path(path).read_bytes()
    data: dict[str, Any] = json.loads(gzip.decompress(raw) if raw[:2] == b"\x1f\x8b" else raw)
    return data


def read_vectors(path: Path | str) -> dict[str, Any]:
    """Published supernet -> {"state_dict": key -> shape, "vectors": [...]}."""
    spaces: dict[str, Any] = read_file(path)["spaces"]
    return spaces


def signal(size: int, key: str = "") -> np.ndarray:
    """The formula's numbers in [-1, 1), shape (size,)."""
    u = np.sin(12.9898 * np.arange(size, dtype=np.float64) + 0.7 * len(key)) * 43758.5453
    return 2 * (u - np.floor(u)) - 1


def filled_state(shapes: Mapping[str, list[int]]) -> dict[str, torch.Tensor]:
    """The published state dict, filled by the formula."""
    return {key: _filled(key, shape) for key, shape in shapes.items()}


def _filled(key: str, shape: list[int]) -> torch.Tensor:
    if key.endswith("num_batches_tracked"):
        return torch.tensor(0)
    s = signal(int(np.prod(shape)), key).reshape(shape)
    if key.endswith("_matrix"):
        values = np.eye(shape[0]) + 0.02 * s
    elif key.endswith("running_var"):
        values = 1 + 0.2 * s
    elif key.endswith(("running_mean", "bias")):
        values = 0.05 * s
    elif len(shape) == 1:
        values = 1 + 0.1 * s
    else:
        values = s * np.sqrt(6 / np.prod(shape[1:]))
    return torch.tensor(values, dtype=torch.float32)


def published_architecture(space: Space, vector: Mapping[str, Any]) -> Architecture:
    """The architecture of one vector of the file."""
    lists = vector["architecture"]
    return architecture_from_lists(
        space, lists["d"], lists.get("ks"), lists["e"], vector["resolution"], lists.get("w", ())
    )


@torch.no_grad()
def compare(supernet: Supernet, vector: Mapping[str, Any]) -> tuple[float, bool]:
    """(largest difference of a logit in standard deviations, whether the parameter counts agree)."""
    architecture = published_architecture(supernet.space, vector)
    size = architecture.resolution
    x = torch.tensor(signal(3 * size * size).reshape(1, 3, size, size), dtype=torch.float32)
    network = cut_out(supernet, architecture)
    wanted = np.array([*vector["logits"], vector["mean"], vector["std"]])
    worst = 0.0
    for logits in (supernet(x, architecture), network(x), fold_batch_norm(network)(x)):
        values = logits[0].double().numpy()
        found = np.array([*values[: len(vector["logits"])], values.mean(), values.std()])
        worst = max(worst, float(np.abs(found - wanted).max() / vector["std"]))
    return worst, network.parameter_count() == vector["parameters"]


def of_images(data: dict[str, Any]) -> dict[str, Any]:
    """Every sub-network of a file of once-for-all's form."""
    results: dict[str, list[tuple[float, bool]]] = {}
    for published, entry in data["spaces"].items():
        supernet = Supernet(space_named(SPACE_NAMES.get(published, published))).eval()
        supernet.load_state_dict(from_published(supernet, filled_state(entry["state_dict"])))
        results[published] = [compare(supernet, vector) for vector in entry["vectors"]]
    every = [result for found in results.values() for result in found]
    return {
        "worst": max(worst for worst, _ in every),
        "parameters_equal": all(equal for _, equal in every),
        "networks": len(every),
        "worst_per_supernet": {name: max(worst for worst, _ in found) for name, found in results.items()},
    }


def of_transformers(data: dict[str, Any]) -> dict[str, Any]:
    """Every sub-network of a file of HAT's form."""
    spaces = data["spaces"]
    results = {name: fidelity_transformers.compare_space(entry) for name, entry in spaces.items()}
    every = [result for found in results.values() for result in found]
    beams = [result.beams for result in every if result.beams is not None]
    published = data.get("published", [])
    return {
        "worst": max(result.logit for result in every),
        "worst_statistic": max(result.statistic for result in every),
        "worst_loss": max(result.loss for result in every),
        "worst_padding_side": max(result.padding for result in every),
        "parameters_equal": all(result.parameters_equal for result in every)
        and fidelity_transformers.published_equal(published, spaces),
        "features_equal": all(result.features_equal for result in every),
        "beams_equal": all(beams),
        "networks": len(every),
        "beams": len(beams),
        "released_architectures": len(published),
        "worst_per_supernet": {name: max(r.logit for r in found) for name, found in results.items()},
    }


def main() -> None:
    """Print one JSON object."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--vectors",
        required=True,
        help="once_for_all_vectors.json.gz, hat_vectors.json.gz or a file like them",
    )
    data = read_file(parser.parse_args().vectors)
    transformers = all("decoder_inputs" in entry for entry in data["spaces"].values())
    result = of_transformers(data) if transformers else of_images(data)
    print(json.dumps({**result, "seed": None, "environment": environment()}))


if __name__ == "__main__":
    main()
