"""Options of commands that say how networks are run: runtime, provider, threads, precision, batch size."""

from __future__ import annotations

from typing import Annotated

import typer

from latency_tables.agent.runtimes.catalog import runtime_named
from latency_tables.agent.runtimes.setup import Setup
from latency_tables.measurement import Context
from supernets.delivery.precision import ASKED, FLOAT32, INT8, MIXED

Runtime = Annotated[str, typer.Option(help="What runs the networks: onnxruntime or openvino.")]
Provider = Annotated[
    str | None,
    typer.Option(
        help="What the runtime computes with: CUDAExecutionProvider, say, or GPU or AUTO for openvino."
    ),
]
ProviderOptions = Annotated[
    list[str] | None,
    typer.Option(
        "--provider-option", help="name=value of the provider, such as device_id=0; may be repeated."
    ),
]
Threads = Annotated[int, typer.Option(min=1, max=256, help="Threads of the runtime; part of the context.")]
Precision = Annotated[
    str,
    typer.Option(
        help="Of the networks: float32 or float16; int8 or mixed: on a device in float32, the rows "
        "for blocks "
        "in int8, or for both."
    ),
]
BatchSize = Annotated[int, typer.Option(min=1, max=65_536, help="Inputs at once.")]


def of_blocks(precision: str) -> tuple[str, list[str] | None]:
    """(precision of the device, precisions of the blocks that are measured there; None: as the device)."""
    return (FLOAT32, list(ASKED[precision])) if precision in (INT8, MIXED) else (precision, None)


def this_context(setup: Setup) -> Context:
    """The context that an agent on this machine measures in with that setup. Raises UnusableRuntime."""
    from latency_tables.agent.runtimes.probe import found

    return found(setup).context


def agent_arguments(context: Context) -> list[str]:
    """Arguments of `bespoke agent` that make it measure in that context. Raises UnusableRuntime where no
    agent can."""
    setup, default = Setup.of_context(context), Setup()
    arguments: list[str] = []
    if setup.runtime != default.runtime:
        arguments += ["--runtime", setup.runtime]
    if setup.provider != runtime_named(setup.runtime).default_provider:
        arguments += ["--provider", str(setup.provider)]
    for name, value in setup.options:
        arguments += ["--provider-option", f"{name}={value}"]
    for flag, value_, usual in (
        ("--threads", setup.threads, default.threads),
        ("--precision", setup.precision, default.precision),
        ("--batch-size", setup.batch_size, default.batch_size),
    ):
        if value_ != usual:
            arguments += [flag, str(value_)]
    return arguments
