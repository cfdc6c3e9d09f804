"""OpenVINO, on any device that it sees; devices are what a context calls the provider: CPU, GPU, GPU.1, AUTO.

The precision is always said to it: left alone it computes float32 networks in bfloat16 where the processor
can.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from functools import cache
from importlib import metadata
from types import ModuleType
from typing import Any, Final, cast

from latency_tables.agent.errors import UnusableRuntime
from latency_tables.agent.runtimes.runtime import Declared, Opened, samples_of
from latency_tables.agent.runtimes.setup import Setup
from latency_tables.inputs import InputSpec

AUTO: Final = "AUTO"
CPU: Final = "CPU"
_TYPES: Final = {"f32": "float32", "f16": "float16", "u8": "uint8", "i32": "int32", "i64": "int64"}
_OF_THE_CONTEXT: Final = ("INFERENCE_NUM_THREADS", "NUM_STREAMS", "PERFORMANCE_HINT")
_DEVICE: Final = re.compile(r"(?!HETERO|MULTI|BATCH)[A-Z]+(\.\d+)?|AUTO:[A-Z.,\d]+", re.ASCII)
_NO_NODE: Final = ("Input", "Output", "Const", "Parameter", "Result", "Constant")


class OpenVino:
    """The module `openvino`."""

    name = "openvino"
    default_provider = CPU

    def version(self) -> str | None:
        try:
            return metadata.version("openvino")
        except metadata.PackageNotFoundError:
            return None

    def refusal(self, setup: Setup) -> str | None:
        if setup.provider is not None and _DEVICE.fullmatch(setup.provider) is None:
            return f"OpenVINO computes on one device, such as CPU, GPU, GPU.1 or NPU, not on {setup.provider}"
        fixed = [name for name, _ in setup.options if name in _OF_THE_CONTEXT]
        if fixed:
            return f"{', '.join(fixed)} follows from the context's threads; give those instead"
        return None

    def check(self, setup: Setup) -> None:
        reason = self.refusal(setup)
        if reason is not None:
            raise UnusableRuntime(reason)
        wanted = setup.provider or CPU
        seen = _core().available_devices
        auto, colon, listed = wanted.partition(":")
        names = (listed.split(",") if colon else []) if auto == AUTO else [wanted]
        strange = [name for name in names if name not in seen]
        if strange:
            raise UnusableRuntime(
                f"OpenVINO sees no device {', '.join(strange)} here; it sees {', '.join(seen)}, and {AUTO} "
                "chooses among them"
            )

    def open(self, data: bytes, inputs: Sequence[InputSpec] | None, setup: Setup, generator: Any) -> Opened:
        core = _core()
        import openvino  # noqa: PLC0415 (after it was checked)

        model = core.read_model(data)
        samples = samples_of([_declared(port) for port in model.inputs], inputs, setup, generator)
        model.reshape({port: list(s.shape) for port, s in zip(model.inputs, samples, strict=True)})
        device = _device(core, model, setup.provider or CPU)
        compiled = _compiled(core, model, device, setup)
        request = compiled.create_infer_request()
        for place, sample in enumerate(samples):
            request.set_input_tensor(place, openvino.Tensor(sample))
        return Opened(
            run=request.infer,
            provider=device,
            nodes={device: _nodes(compiled)},
            in_calling_thread=device == CPU and setup.threads == 1,
        )


def _declared(port: Any) -> Declared:
    shape = tuple(None if d.is_dynamic else d.get_length() for d in port.partial_shape)
    return Declared(port.any_name, shape, _TYPES.get(port.element_type.to_string()))


@cache
def _core() -> Any:
    """Raises UnusableRuntime where the package is not installed.

    Importing it would tell its makers so, from a process that it forks; an agent talks to its own service and
    nobody else.
    """
    sys.modules.setdefault(
        "openvino_telemetry", cast(ModuleType, None)
    )  # None: an import of it fails, which is provided for
    try:
        import openvino  # noqa: PLC0415
    except ImportError:
        raise UnusableRuntime("OpenVINO is not installed here: pip install 'bespoke-nas[openvino]'") from None
    return openvino.Core()


def _device(core: Any, model: Any, wanted: str) -> str:
    """The one device that computes: what AUTO chooses for this network, else what was asked for."""
    if not wanted.startswith(AUTO):
        return wanted
    # Without the start on the CPU while a slower compilation goes on elsewhere, what is told is what stays.
    chosen = core.compile_model(model, wanted, {"ENABLE_STARTUP_FALLBACK": False}).get_property(
        "EXECUTION_DEVICES"
    )
    if len(chosen) != 1:
        raise UnusableRuntime(f"{wanted} spreads a network over {', '.join(chosen)}; name one device")
    return str(chosen[0]).strip("()")


def _computed_in(core: Any, device: str, precision: str) -> str:
    """The precision to compute in, in OpenVINO's words.

    Asked for float16, a processor that has bfloat16 only would take that, with three bits fewer.
    """
    halves = precision == "float16" and "FP16" in core.get_property(device, "OPTIMIZATION_CAPABILITIES")
    return "f16" if halves else "f32"


def _compiled(core: Any, model: Any, device: str, setup: Setup) -> Any:
    """The network on the device. Raises UnusableRuntime where the device lacks an option or does not take its
    value."""
    offered = core.get_property(device, "SUPPORTED_PROPERTIES")
    writable = {str(name) for name, access in offered.items() if str(access) != "RO"}
    unknown = [name for name, _ in setup.options if name not in writable]
    if unknown:
        raise UnusableRuntime(
            f"{device} has no option {', '.join(unknown)}; it has {', '.join(sorted(writable))}"
        )
    # A thread that is tied to a core cannot step aside when another program takes that core.
    wanted = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": setup.threads,
        "NUM_STREAMS": 1,
        "ENABLE_CPU_PINNING": False,
        "INFERENCE_PRECISION_HINT": _computed_in(core, device, setup.precision),
        **dict(setup.options),
    }
    try:
        return core.compile_model(
            model, device, {name: value for name, value in wanted.items() if name in writable}
        )
    except RuntimeError as error:
        raise UnusableRuntime(
            f"OpenVINO cannot prepare a network for {device}: {_last_line(error)}"
        ) from None


def _last_line(error: RuntimeError) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1][:300] if lines else "no reason given"


def _nodes(compiled: Any) -> int:
    """Nodes of the graph that runs, inputs, outputs and constants aside."""
    kinds = [op.get_rt_info() for op in compiled.get_runtime_model().get_ordered_ops()]
    names = [info["layerType"].astype(str) if "layerType" in info else "" for info in kinds]
    return sum(name not in _NO_NODE for name in names)
