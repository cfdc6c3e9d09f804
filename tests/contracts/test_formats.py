"""One contract for every format of files; a format that a distribution adds inherits it."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch

from latency_tables.errors import BespokeError
from latency_tables.measurement import Context
from supernets.data.catalog import load_digits
from supernets.data.splits import Dataset
from supernets.delivery import testing
from supernets.delivery.catalog import (
    FORMATS,
    common_delivery,
    delivery_of,
    format_named,
    refusal,
    register_format,
    remark,
)
from supernets.delivery.format import Delivery, Format, outputs
from supernets.delivery.parity import compared
from supernets.delivery.passes import PLAIN, Source, passed
from supernets.delivery.pipeline import Written, deliver
from supernets.errors import ExportFailed, UnservableContext
from supernets.network import Supernet
from supernets.spaces.catalog import SPACES
from supernets.spaces.lowering import lower
from supernets.tasks.catalog import task_of

SPACE = SPACES["digits-mbv3"]
NETWORK = SPACE.smallest()
USUAL = {"onnx": Context("onnxruntime", "1.31", "CPUExecutionProvider", 1, "float32", 1)}
every_format = pytest.mark.parametrize("name", [n for n, form in FORMATS.items() if form.holds(SPACE)])
"""Of pictures; of archives see `test_sentence_spaces`."""


@cache
def digits() -> Dataset:
    return load_digits()


@cache
def source() -> Source:
    return Source(Supernet(SPACE, generator=torch.Generator().manual_seed(0)).eval(), NETWORK, digits())


def context_of(name: str) -> Context:
    """One that this format serves: the usual one with the runtime that it claims."""
    if name in USUAL:
        return USUAL[name]
    runtimes = ("torch", "openvino", "tflite", "tvm", "ncnn", name)
    contexts = [replace(USUAL["onnx"], runtime=runtime) for runtime in runtimes]
    return next(one for one in contexts if refusal(one) is None and delivery_of(one).format == name)


@cache
def written(name: str) -> Written:
    return deliver(source(), delivery_of(context_of(name)))


@every_format
def test_a_context_is_claimed_or_left_to_others_and_what_cannot_be_is_refused_with_the_reason(
    name: str,
) -> None:
    form, context = FORMATS[name], context_of(name)
    assert delivery_of(context).format == name and form.tolerance(delivery_of(context)) > 0
    assert delivery_of(context).to_json().get("format", "onnx") == name
    assert Delivery.from_json(delivery_of(context).to_json()) == delivery_of(context)
    said = refusal(replace(context, precision="float8"))
    assert said is not None and "float8" in said and remark(replace(context, precision="float8")) is None
    if name != "onnx":
        assert form.serves(USUAL["onnx"]) is None, "a format takes no context away that it knows nothing of"


@every_format
def test_a_delivered_file_computes_the_network(name: str) -> None:
    made = written(name)
    assert made.parity.holds and made.parity.tolerance == FORMATS[name].tolerance(
        delivery_of(context_of(name))
    )
    assert made.described["shape"][1:] == [1, NETWORK.resolution, NETWORK.resolution]
    opened = FORMATS[name].open(made.file)
    inputs, _ = task_of(digits()).examples(digits(), "test", NETWORK.resolution, np.arange(7))
    with torch.no_grad():
        wanted = made.network(inputs).numpy()
    assert np.allclose(outputs(opened, inputs.numpy()), wanted, atol=1e-3)


@every_format
def test_another_network_is_not_what_the_file_computes(name: str) -> None:
    other = passed(Source(Supernet(SPACE).eval(), NETWORK, digits()), PLAIN)
    found = compared(other, FORMATS[name].open(written(name).file), 1e-4, samples=2)
    assert not found.holds


@every_format
def test_the_quality_of_a_file_is_that_of_its_network(name: str) -> None:
    made, task = written(name), task_of(digits())
    found = testing.tested(FORMATS[name].open(made.file), digits(), NETWORK.resolution)
    inputs, targets = task.examples(digits(), "test", NETWORK.resolution, np.arange(360))
    with torch.no_grad():
        assert found.quality == pytest.approx(
            task.quality(task.tally(made.network(inputs), targets)), abs=1 / 360
        )
    assert found.samples == 360 and len(found.by_class) == 10


@every_format
def test_micro_benchmarks_and_calibration_networks_are_files_of_the_format(name: str) -> None:
    form, delivery = FORMATS[name], delivery_of(context_of(name))
    plan, seen = lower(SPACE, NETWORK), []
    files = form.operators(plan, delivery, lambda done, of: seen.append((done, of)))
    assert set(files) == set(plan) and seen[-1][0] == seen[-1][1]
    first = form.open(files[plan[0]])
    (given,) = first.inputs
    assert first.run(np.zeros(given.shape, dtype=given.dtype)).shape[1] == plan[0].out_channels
    (whole,) = form.networks(SPACE, [NETWORK], files, delivery)
    opened = form.open(whole)
    (given,) = opened.inputs
    assert opened.run(np.ones(given.shape, dtype=given.dtype)).shape == (1, 10)


@every_format
def test_a_preprocessing_inside_is_delivered_or_refused_never_left_out(name: str) -> None:
    form = replace(delivery_of(context_of(name)), preprocessing="embedded")
    try:
        made = deliver(source(), form)
    except BespokeError as error:
        assert isinstance(error, ExportFailed)
    else:
        assert FORMATS[name].open(made.file).inputs[0].dtype == "uint8"


def test_devices_of_two_formats_share_no_file(monkeypatch: pytest.MonkeyPatch) -> None:
    class Other(type(FORMATS["onnx"])):  # type: ignore[misc]  # only what it claims is another
        name = "other"

        def serves(self, context: Context) -> Delivery | None:
            return Delivery() if context.runtime == "other" else None

    monkeypatch.setattr("supernets.delivery.catalog.FORMATS", dict(FORMATS))
    register_format(Other())
    other = replace(USUAL["onnx"], runtime="other")
    assert delivery_of(other).format == "other" and delivery_of(USUAL["onnx"]).format == "onnx"
    with pytest.raises(UnservableContext, match="other in float32"):
        common_delivery([USUAL["onnx"], other])
    with pytest.raises(ValueError, match="another name"):
        register_format(Other())


def test_an_unknown_format_is_named_with_the_known_ones() -> None:
    with pytest.raises(UnservableContext, match="onnx"):
        format_named("tflite")


def test_the_old_form_of_a_delivery_is_onnx() -> None:
    """Part of the keys of steps: what an installation has exported is not exported again."""
    assert set(Delivery().to_json()) == {"opset", "ir_version", "precision", "batch_size", "preprocessing"}
    assert isinstance(format_named(Delivery.from_json(None).format), Format)
