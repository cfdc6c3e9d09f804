"""Texts and digests that tables and databases everywhere rest on, for every built-in space: they may never
change.

`python -m tests.recorded.texts` records them, in a checkout of the commit to record.
"""

from __future__ import annotations

import gzip
import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np

from latency_tables.formats.catalog import FORMATS
from latency_tables.measurement import Context, Measurement
from latency_tables.table import LatencyTable
from supernets.spaces.catalog import SPACES
from supernets.spaces.lowering import all_operators, lower
from supernets.spaces.space import Space

RECORDED = Path(__file__).parent / "texts_0ecf99f.json.gz"
BUILT_IN = (
    "digits-mbv3",
    "cifar-mbv3",
    "ofa-mbv3",
    "ofa-mbv3-w1.2",
    "ofa-proxyless",
    "ofa-resnet50",
    "proxyless",
)
CONTEXT = Context("onnxruntime", "1.31", "CPUExecutionProvider", 1, "float32", 1)


def texts_of(space: Space) -> dict[str, Any]:
    """Operators, a table of them with its digest, and architectures with their digests and lowered forms."""
    resolution = space.resolutions[0]
    operators = sorted(all_operators(space, resolution))
    table = LatencyTable(
        CONTEXT, {op: Measurement(0.002 + op.macs * 1e-7, 0.001, 0.0001, 90) for op in operators}
    )
    networks = [space.smallest(), space.largest(), *space.sample(np.random.default_rng(0), 2)]
    return {
        "operators": [
            len(operators),
            _sha256(op.text for op in operators),
            operators[0].text,
            operators[-1].text,
        ],
        "work": _sha256(f"{op.macs} {op.parameters} {op.bytes_moved}" for op in operators),
        "table_digest": table.digest,
        "formats": {
            n: hashlib.sha256(f.write(table)).hexdigest()
            for n, f in sorted(FORMATS.items())
            if f.write is not None
        },
        "architectures": [
            {
                "digest": a.digest,
                "json": space.to_json(a),
                "operators": _sha256(op.text for op in lower(space, a)),
                "genes": space.genes(a).tolist(),
            }
            for a in networks
        ],
    }


def _sha256(parts: Any) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def record() -> dict[str, Any]:
    found = {}
    for name in BUILT_IN:
        space = SPACES[name]
        found[name] = texts_of(space)
        found[f"{name} 62"] = texts_of(space.with_classes(62))
    return found


if __name__ == "__main__":
    RECORDED.write_bytes(gzip.compress(json.dumps(record(), indent=0).encode(), mtime=0))
