"""Try a setup out: a small network is opened in a child process, so that the context names what was really
used.

`python -m latency_tables.agent.runtimes.probe` reads a setup as one JSON line from its standard input and
answers with one line: {"provider": name, "nodes": {...}} or {"error": text}.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

from latency_tables.agent.errors import UnusableRuntime
from latency_tables.agent.runtimes.catalog import runtime_named
from latency_tables.agent.runtimes.setup import Setup
from latency_tables.measurement import Context

_TRIAL_S: Final = 180.0
"""TensorRT builds an engine before it runs anything."""
_CHANNELS, _SIZE, _KERNEL = 8, 8, 3
_ONNX_TYPES: Final = {"float32": 1, "float16": 10}


@dataclass(frozen=True)
class Found:
    """What a setup gives on this device. nodes: of the small network, by provider."""

    context: Context
    nodes: Mapping[str, int]

    @property
    def setup(self) -> Setup:
        """The wish with every choice made: what AUTO chose is named."""
        return Setup.of_context(self.context)


@lru_cache(maxsize=32)
def found(setup: Setup) -> Found:
    """Try the setup out in a child process. Raises UnusableRuntime with the reason and what to do."""
    runtime = runtime_named(setup.runtime)
    known = {
        name: value for name, value in os.environ.items() if not name.startswith("BESPOKE_")
    }  # no token, no key
    try:
        done = subprocess.run(
            [sys.executable, "-m", "latency_tables.agent.runtimes.probe"],
            input=json.dumps(setup.as_dict()) + "\n",
            capture_output=True,
            text=True,
            env=known,
            timeout=_TRIAL_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise UnusableRuntime(
            f"{setup.runtime} did not open a small network within {_TRIAL_S:.0f} s"
        ) from None
    answer = _answer(done.stdout)
    if answer is None:
        raise UnusableRuntime(
            f"{setup.runtime} ended with status {done.returncode} while it opened a small network"
        )
    if "error" in answer:
        raise UnusableRuntime(str(answer["error"]))
    return Found(setup.context(runtime.version() or "unknown", answer["provider"]), answer["nodes"])


def trial(setup: Setup) -> dict[str, Any]:
    """Open and run the small network in this process; what really computed. Raises UnusableRuntime."""
    import numpy as np  # noqa: PLC0415 (the parent does not need it)

    runtime = runtime_named(setup.runtime)
    runtime.check(setup)
    shape = (setup.batch_size, _CHANNELS, _SIZE, _SIZE)
    network = runtime.open(small_network(shape, setup.precision), None, setup, np.random.default_rng(0))
    network.run()
    if network.nodes and not network.nodes.get(network.provider):
        raise UnusableRuntime(
            f"{network.provider} is offered but computes nothing: all nodes of a convolution went to "
            f"{', '.join(network.nodes)}"
        )
    return {"provider": network.provider, "nodes": dict(network.nodes)}


def small_network(shape: Sequence[int], precision: str = "float32") -> bytes:
    """An ONNX file of one 3x3 convolution and a ReLU, written by hand: the agent has no `onnx` package."""
    kind = _ONNX_TYPES[precision]
    bytes_each = 4 if precision == "float32" else 2
    dims = (_CHANNELS, shape[1], _KERNEL, _KERNEL)
    elements = dims[0] * dims[1] * dims[2] * dims[3]
    weights = (
        b"".join(_number(1, d) for d in dims)
        + _number(2, kind)
        + _text(8, "w")
        + _part(9, bytes(elements * bytes_each))
    )
    pads = _text(1, "pads") + b"".join(_number(8, 1) for _ in range(4)) + _number(20, 7)
    convolution = (
        _text(1, "x") + _text(1, "w") + _text(2, "h") + _text(3, "conv") + _text(4, "Conv") + _part(5, pads)
    )
    relu = _text(1, "h") + _text(2, "y") + _text(3, "relu") + _text(4, "Relu")
    graph = _part(1, convolution) + _part(1, relu) + _text(2, "g") + _part(5, weights)
    graph += _part(11, _tensor("x", kind, shape)) + _part(
        12, _tensor("y", kind, (shape[0], _CHANNELS, *shape[2:]))
    )
    return _number(1, 8) + _part(7, graph) + _part(8, _text(1, "") + _number(2, 17))  # IR version 8, opset 17


def _tensor(name: str, kind: int, shape: Sequence[int]) -> bytes:
    dims = b"".join(_part(1, _number(1, size)) for size in shape)
    return _text(1, name) + _part(2, _part(1, _number(1, kind) + _part(2, dims)))


def _number(field: int, value: int) -> bytes:
    return _varint(field << 3) + _varint(value)


def _text(field: int, value: str) -> bytes:
    return _part(field, value.encode())


def _part(field: int, data: bytes) -> bytes:
    return _varint(field << 3 | 2) + _varint(len(data)) + data


def _varint(value: int) -> bytes:
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def _answer(text: str) -> dict[str, Any] | None:
    """The last line, where it is an answer: a runtime may write to the standard output too."""
    for line in reversed(text.strip().splitlines()):
        try:
            answer = json.loads(line)
        except ValueError:
            return None
        return (
            answer
            if isinstance(answer, dict) and ("error" in answer or {"provider", "nodes"} <= answer.keys())
            else None
        )
    return None


def main() -> int:
    """Answer one setup."""
    try:
        answer = trial(Setup.from_dict(json.loads(sys.stdin.readline())))
    except UnusableRuntime as error:
        answer = {"error": str(error)}
    except Exception as error:  # noqa: BLE001 (whatever the runtime raises goes to the parent as text)
        answer = {
            "error": f"a small network cannot be opened: {type(error).__name__}: "
            f"{' '.join(str(error).split())[:500]}"
        }
    sys.stdout.write("\n" + json.dumps(answer) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
