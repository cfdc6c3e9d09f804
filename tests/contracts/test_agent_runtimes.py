"""What every runtime of the agent promises: `latency_tables.agent.runtimes.runtime.Runtime`."""

import subprocess
import sys
import time

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from latency_tables.agent.errors import MeasuringFailed, UnusableRuntime
from latency_tables.agent.runner import Job, Limits, Network, measure_in_child
from latency_tables.agent.runtimes.catalog import RUNTIMES, refusal, runtime_named
from latency_tables.agent.runtimes.probe import found, small_network
from latency_tables.agent.runtimes.setup import PRECISIONS, Setup, options_from
from latency_tables.inputs import InputSpec
from latency_tables.measurement import Context
from tests.latency_tables.agent.networks import convolution

CPU = {"onnxruntime": "CPUExecutionProvider", "openvino": "CPU"}


@pytest.fixture(params=sorted(RUNTIMES))
def runtime(request):
    return RUNTIMES[request.param]


def opened(runtime, data=None, shape=(1, 3, 8, 8), **setup):
    inputs = shape and [InputSpec("x", shape)]
    return runtime.open(data or convolution(), inputs, Setup(runtime.name, **setup), np.random.default_rng(0))


def test_the_installed_version_is_told_and_the_default_can_be_used(runtime):
    assert runtime.version()[0].isdigit()
    runtime.check(Setup(runtime.name))


def test_a_network_runs_and_its_output_is_that_of_one_inference(runtime):
    network = opened(runtime)
    network.run()
    network.run()
    assert network.provider == CPU[runtime.name]


def test_the_nodes_of_a_network_are_counted_by_provider(runtime):
    assert opened(runtime).nodes.keys() == {CPU[runtime.name]}
    assert sum(opened(runtime).nodes.values()) >= 1


@pytest.mark.parametrize("threads", [1, 2])
def test_more_threads_than_one_can_be_asked_for(runtime, threads):
    network = opened(runtime, threads=threads)
    network.run()
    assert not (threads > 1 and network.in_calling_thread), (
        "the processor time of one thread is not that of the network"
    )


def test_the_processor_time_of_the_calling_thread_is_that_of_the_network_where_the_runtime_says_so(runtime):
    shape = (1, 3, 64, 64)
    network = opened(runtime, convolution(channels=32, shape=shape), shape)
    assert network.in_calling_thread
    network.run()
    own_ns, elapsed_ns = [], []
    for _ in range(200):
        begun, start = time.thread_time_ns(), time.perf_counter_ns()
        network.run()
        elapsed_ns.append(time.perf_counter_ns() - start)
        own_ns.append(time.thread_time_ns() - begun)
    # The quickest of each: neighbours of this test make it wait, which is what processor time leaves out.
    assert 0.85 < min(own_ns) / min(elapsed_ns) < 1.1


def test_an_input_of_another_shape_is_refused(runtime):
    for shape in ((1, 3, 9, 9), (1, 3, 8), (2, 3, 8, 8)):
        with pytest.raises(ValueError, match="another shape"):
            opened(runtime, shape=shape)


def test_the_declared_shape_is_used_where_none_is_named(runtime):
    opened(runtime, shape=None).run()


def test_a_provider_that_is_not_offered_is_refused_by_name(runtime):
    imaginary = {"onnxruntime": "ImaginaryExecutionProvider", "openvino": "IMAGINARY"}[runtime.name]
    with pytest.raises(UnusableRuntime, match=imaginary):
        runtime.check(Setup(runtime.name, provider=imaginary))


def test_an_option_that_the_provider_does_not_have_is_refused_by_name(runtime):
    with pytest.raises(UnusableRuntime, match="no option nonsense"):
        opened(runtime, provider=CPU[runtime.name], options=(("nonsense", "1"),))


@pytest.mark.parametrize("batch_size", [1, 5])
@pytest.mark.parametrize("precision", PRECISIONS)
def test_the_context_names_what_was_used(runtime, precision, batch_size):
    wish = Setup(runtime.name, precision=precision, batch_size=batch_size, threads=2)
    seen = found(wish)
    assert seen.context == Context(
        runtime.name, runtime.version(), CPU[runtime.name], 2, precision, batch_size
    )
    assert seen.nodes.keys() == {CPU[runtime.name]}
    assert found(seen.setup).context == seen.context, (
        "the choices made are a wish that gives the same context"
    )


def test_inputs_are_of_the_files_own_type(runtime):
    half = small_network((2, 8, 8, 8), "float16")
    opened(runtime, half, (2, 8, 8, 8), precision="float16", batch_size=2).run()


def test_a_network_that_takes_pixels_is_measured_in_the_precision_of_its_context(runtime):
    graph = helper.make_graph(
        [
            helper.make_node("Cast", ["x"], ["h"], to=TensorProto.FLOAT),
            helper.make_node("Relu", ["h"], ["y"]),
        ],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.UINT8, (1, 3, 8, 8))],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, (1, 3, 8, 8))],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    opened(runtime, model.SerializeToString()).run()


def test_a_file_with_an_input_of_a_type_that_is_not_measured_is_refused(runtime):
    with pytest.raises(ValueError, match="inputs of float32, float16, uint8, int32 or int64"):
        opened(runtime, sum_of(TensorProto.DOUBLE), (1, 4))


def test_tokens_are_numbers_of_a_vocabulary(runtime):
    """A row beyond the table is an error of the runtime, so this also tells that `below` is kept to."""
    graph = helper.make_graph(
        [helper.make_node("Gather", ["rows", "a"], ["h"]), helper.make_node("Add", ["h", "b"], ["y"])],
        "g",
        [
            helper.make_tensor_value_info("a", TensorProto.INT64, (1, 64)),
            helper.make_tensor_value_info("b", TensorProto.FLOAT, (1, 64, 4)),
        ],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, (1, 64, 4))],
        [helper.make_tensor("rows", TensorProto.FLOAT, (3, 4), [1.0] * 12)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    inputs = [InputSpec("b", (1, 64, 4)), InputSpec("a", (1, 64), "int64", below=3)]
    for given in (inputs, None):
        runtime.open(model.SerializeToString(), given, Setup(runtime.name), np.random.default_rng(0)).run()
    with pytest.raises(ValueError, match="takes 2 inputs, not 1"):
        runtime.open(model.SerializeToString(), inputs[:1], Setup(runtime.name), np.random.default_rng(0))


def test_a_network_of_another_batch_or_precision_than_the_contexts_is_refused(runtime):
    with pytest.raises(ValueError, match="a batch of 1, the context's is 4"):
        opened(runtime, batch_size=4)
    with pytest.raises(ValueError, match="takes float32, the context's precision is float16"):
        opened(runtime, precision="float16")


def test_a_provider_of_another_runtime_can_never_be_had(runtime):
    other = {"onnxruntime": "CPU", "openvino": "CPUExecutionProvider"}[runtime.name]
    assert other in refusal(Context(runtime.name, "1", other, 1, "float32", 1))
    assert refusal(Context(runtime.name, "1", CPU[runtime.name], 1, "float32", 1)) is None
    assert "float32" in refusal(Context(runtime.name, "1", CPU[runtime.name], 1, "int3", 1))


def test_a_network_too_large_for_the_memory_is_an_error_of_the_child_and_no_answer(runtime, tmp_path):
    (tmp_path / "n.onnx").write_bytes(convolution(channels=64, shape=(1, 64, 2048, 2048)))
    job = Job({"n": Network(tmp_path / "n.onnx")}, setup=Setup(runtime.name), limits=Limits(memory_mib=1100))
    with pytest.raises(MeasuringFailed):
        measure_in_child(job)


def test_onnxruntime_that_falls_back_to_another_provider_without_an_error_is_found_out():
    runtime = RUNTIMES["onnxruntime"]
    with pytest.raises(UnusableRuntime, match="fell back to CPUExecutionProvider"):
        opened(runtime, provider="CUDAExecutionProvider")


def test_a_provider_that_is_there_and_takes_no_node_is_found_out():
    with pytest.raises(UnusableRuntime, match="AzureExecutionProvider is offered but computes nothing"):
        found(Setup(provider="AzureExecutionProvider"))


def test_openvino_computes_in_the_precision_of_the_context_and_not_in_a_narrower_one():
    """On a processor with AMX it would take bfloat16 for float32 networks, and for float16 ones on any that has
    bfloat16 alone."""
    import openvino

    from latency_tables.agent.runtimes import openvino as module

    model = openvino.Core().read_model(convolution())
    for precision, told in (
        ("float32", {"float32", "f32"}),
        ("float16", {"float16", "f16", "float32", "f32"}),
    ):
        compiled = module._compiled(openvino.Core(), model, "CPU", Setup("openvino", precision=precision))
        assert compiled.get_property("INFERENCE_PRECISION_HINT").to_string() in told


def test_openvino_does_not_phone_home():
    code = (
        "import sys, threading\n"
        "from latency_tables.agent.runtimes.probe import Setup, trial\n"
        "trial(Setup('openvino')); print(sys.modules['openvino_telemetry'], threading.active_count())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["None", "1"]


def test_what_openvino_chooses_by_itself_is_named():
    assert found(Setup("openvino", "AUTO")).context.provider == "CPU"


def test_options_are_part_of_the_context_and_come_back():
    wish = Setup(
        "openvino", "CPU", options_from(["ENABLE_HYPER_THREADING=NO", "EXECUTION_MODE_HINT=ACCURACY"])
    )
    context = found(wish).context
    assert context.provider == "CPU(ENABLE_HYPER_THREADING=NO;EXECUTION_MODE_HINT=ACCURACY)"
    assert Setup.of_context(context) == wish


@pytest.mark.parametrize("text", ["CPU(", "CPU()", "CPU(a)", "CPU(a=1", "CPU(a=1;a=2)", "(a=1)"])
def test_a_provider_text_of_another_form_is_refused(text):
    assert refusal(Context("openvino", "1", text, 1, "float32", 1))


def test_the_small_network_is_valid_onnx():
    for precision in PRECISIONS:
        onnx.checker.check_model(
            onnx.load_from_string(small_network((2, 8, 8, 8), precision)), full_check=True
        )


def sum_of(kind):
    graph = helper.make_graph(
        [helper.make_node("Add", ["x", "x"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", kind, (1, 4))],
        [helper.make_tensor_value_info("y", kind, (1, 4))],
    )
    return helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10
    ).SerializeToString()


def test_an_unknown_runtime_is_refused_with_those_there_are():
    with pytest.raises(UnusableRuntime, match="it has onnxruntime"):
        runtime_named("tflite")
