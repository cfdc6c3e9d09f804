"""What every runtime of the agent promises: `latency_tables.agent.runtimes.runtime.Runtime`."""

import numpy as np
import pytest

from latency_tables.agent.problems import UnusableRuntime
from latency_tables.agent.runtimes.catalog import RUNTIMES, runtime_named
from latency_tables.agent.runtimes.setup import Setup
from tests.latency_tables.agent.networks import convolution

CPU = {"onnxruntime": "CPUExecutionProvider", "openvino": "CPU"}


@pytest.fixture(params=sorted(RUNTIMES))
def runtime(request):
    return RUNTIMES[request.param]


def opened(runtime, data=None, shape=(1, 3, 8, 8), **setup):
    return runtime.open(data or convolution(), shape, Setup(runtime.name, **setup), np.random.default_rng(0))


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
    assert not (threads > 1 and network.in_calling_thread), "the processor time of one thread is not that of the network"


def test_an_input_of_another_shape_is_refused(runtime):
    for shape in ((1, 3, 9, 9), (1, 3, 8), (2, 3, 8, 8)):
        with pytest.raises(ValueError, match="another shape"):
            opened(runtime, shape=shape)


def test_the_declared_shape_is_used_where_none_is_named(runtime):
    opened(runtime, shape=None).run()


def test_a_provider_that_is_not_offered_is_refused_by_name(runtime):
    with pytest.raises(UnusableRuntime, match="Imaginary"):
        runtime.check(Setup(runtime.name, provider="Imaginary"))


def test_an_option_that_the_provider_does_not_have_is_refused_by_name(runtime):
    with pytest.raises(UnusableRuntime, match="no option nonsense"):
        opened(runtime, provider=CPU[runtime.name], options=(("nonsense", "1"),))


def test_an_unknown_runtime_is_refused_with_those_there_are():
    with pytest.raises(UnusableRuntime, match="it has onnxruntime"):
        runtime_named("tflite")
