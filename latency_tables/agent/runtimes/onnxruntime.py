"""ONNX Runtime, with any execution provider that the installed package offers."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from importlib import metadata
from typing import Any, Final

from latency_tables.agent.errors import UnusableRuntime
from latency_tables.agent.runtimes.runtime import Declared, Opened, check_context, samples_of
from latency_tables.agent.runtimes.setup import Setup
from latency_tables.generation import END, UNKNOWN
from latency_tables.inputs import InputSpec
from latency_tables.text_network import TextNetwork, files_of, is_archive

CPU: Final = "CPUExecutionProvider"
_PACKAGES: Final = (
    "onnxruntime",
    "onnxruntime-gpu",
    "onnxruntime-openvino",
    "onnxruntime-directml",
    "onnxruntime-qnn",
    "onnxruntime-migraphx",
)
"""All of them install the module `onnxruntime`."""
_TYPES: Final = {
    "tensor(float)": "float32",
    "tensor(float16)": "float16",
    "tensor(uint8)": "uint8",
    "tensor(int32)": "int32",
    "tensor(int64)": "int64",
}
_MEMORY: Final = {
    "CUDAExecutionProvider": "cuda",
    "TensorrtExecutionProvider": "cuda",
    "MIGraphXExecutionProvider": "cuda",
}
"""Providers whose inputs and outputs are bound in the device's own memory: copying is no part of a network's
latency."""


class OnnxRuntime:
    """The module `onnxruntime`, whichever package brought it."""

    name = "onnxruntime"
    default_provider = CPU

    def version(self) -> str | None:
        for package in _PACKAGES:
            try:
                return metadata.version(package)
            except metadata.PackageNotFoundError:
                continue
        return None

    def refusal(self, setup: Setup) -> str | None:
        if setup.provider is not None and not setup.provider.endswith("ExecutionProvider"):
            return (
                f"onnxruntime has execution providers, such as {CPU} and CUDAExecutionProvider, and no "
                f"{setup.provider}"
            )
        return None

    def check(self, setup: Setup) -> None:
        try:
            import onnxruntime  # noqa: PLC0415 (only where it is used)
        except ImportError:
            raise UnusableRuntime(
                "onnxruntime is not installed here: pip install 'bespoke-nas[agent]'"
            ) from None
        offered = onnxruntime.get_available_providers()
        wanted = setup.provider or CPU
        if wanted not in offered:
            raise UnusableRuntime(
                f"the installed onnxruntime does not offer {wanted}; it offers {', '.join(offered)}. "
                "Another package may, "
                "such as onnxruntime-gpu for CUDAExecutionProvider"
            )

    def open(self, data: bytes, inputs: Sequence[InputSpec] | None, setup: Setup, generator: Any) -> Opened:
        provider = setup.provider or CPU
        if is_archive(data):
            return _generating(data, inputs, setup, provider, generator)
        session = _session(data, setup, provider)
        _check_provider(session, setup, provider)
        declared = [
            Declared(
                given.name,
                tuple(d if isinstance(d, int) else None for d in given.shape),
                _TYPES.get(given.type),
            )
            for given in session.get_inputs()
        ]
        samples = samples_of(declared, inputs, setup, generator)
        return Opened(
            run=_bound(session, samples, provider, dict(setup.options)),
            provider=provider,
            nodes=_nodes(session),
            in_calling_thread=provider == CPU and setup.threads == 1,
        )


def _generating(
    data: bytes, inputs: Sequence[InputSpec] | None, setup: Setup, provider: str, generator: Any
) -> Opened:
    """A transformer's archive: one run writes the sentence that its `generation_config.json` describes, with
    caches and beams, from a source of random words. Raises ValueError, UnusableRuntime."""
    if provider != CPU or setup.precision != "float32":
        raise UnusableRuntime(f"a transformer is measured by {CPU} in float32; this context is another")

    def opened(graph: bytes) -> Any:
        session = _session(graph, setup, provider)
        _check_provider(session, setup, provider)
        return session

    network = TextNetwork(files_of(data), opened)
    if inputs is None or len(inputs) != 1:
        raise ValueError("a transformer takes one sentence; its length is not said")
    check_context(setup, inputs[0].shape, inputs[0].dtype)
    words = inputs[0].below or UNKNOWN + 2
    sources = generator.integers(min(UNKNOWN + 1, words - 1), words, inputs[0].shape)
    sources[:, -1] = END
    return Opened(
        run=lambda: network.generate(sources.tolist()),
        provider=provider,
        nodes=_nodes(network.with_past),
        in_calling_thread=setup.threads == 1,
    )


def _session(data: bytes, setup: Setup, provider: str) -> Any:
    import onnxruntime  # noqa: PLC0415

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = setup.threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    # Without enable_fallback=0 the Python package answers an error of the provider by using the CPU.
    named = [(provider, dict(setup.options))] if provider == CPU else [(provider, dict(setup.options)), CPU]
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore"
        )  # a provider that is missing is a warning there; it is found out afterwards
        return onnxruntime.InferenceSession(data, options, providers=named, enable_fallback=0)


def _check_provider(session: Any, setup: Setup, provider: str) -> None:
    """Raises UnusableRuntime where the provider, or an option of it, silently is not the one asked for."""
    if provider not in session.get_providers():
        raise UnusableRuntime(
            f"{provider} cannot be used here: onnxruntime fell back to "
            f"{', '.join(session.get_providers())} without an error. "
            "Are the provider's own libraries and driver installed?"
        )
    taken = session.get_provider_options().get(provider, {})
    unknown = [name for name, _ in setup.options if name not in taken]
    if unknown:
        raise UnusableRuntime(
            f"{provider} has no option {', '.join(unknown)}; it has {', '.join(sorted(taken)) or 'none'}"
        )


def _bound(
    session: Any, samples: Sequence[Any], provider: str, options: dict[str, str]
) -> Callable[[], object]:
    import onnxruntime  # noqa: PLC0415

    memory, number = _MEMORY.get(provider, "cpu"), int(options.get("device_id", 0))
    binding = session.io_binding()
    for given, sample in zip(session.get_inputs(), samples, strict=True):
        value = onnxruntime.OrtValue.ortvalue_from_numpy(sample, memory, number if memory != "cpu" else 0)
        binding.bind_ortvalue_input(given.name, value)
    for output in session.get_outputs():
        binding.bind_output(output.name, memory, number if memory != "cpu" else 0)

    def run() -> object:
        return session.run_with_iobinding(binding)

    return run


def _nodes(session: Any) -> dict[str, int]:
    """Nodes of the graph by the provider they were assigned to."""
    if not hasattr(session, "get_provider_graph_assignment_info"):  # onnxruntime before 1.24
        return {}
    found: Counter[str] = Counter()
    for part in session.get_provider_graph_assignment_info():
        found[part.ep_name] += len(part.get_nodes())
    return dict(found)
