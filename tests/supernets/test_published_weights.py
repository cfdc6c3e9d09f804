"""Our once-for-all networks are the published ones, and only their checkpoints are taken."""

from __future__ import annotations

import argparse
import pickle
import warnings
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from benchmarks.fidelity import SPACE_NAMES, compare, filled_state, read_vectors
from supernets.errors import InvalidCheckpoint
from supernets.network import Supernet
from supernets.published_weights import from_published, load_published, published_keys
from supernets.spaces.catalog import SPACES

VECTORS = Path(__file__).resolve().parents[3] / "shared" / "data" / "once_for_all_vectors.json.gz"
needs_vectors = pytest.mark.skipif(
    not VECTORS.exists(), reason="published vectors (../shared/data) are not here"
)
PUBLISHED = ["ofa-mbv3-w1.0", "ofa-mbv3-w1.2", "ofa-proxyless-w1.3", "ofa-resnet50"]
SMALL = SPACES["ofa-mbv3"]
TINY = SPACES["digits-mbv3"]


@needs_vectors
@pytest.mark.parametrize("published", PUBLISHED)
def test_logits_and_parameters_of_the_published_code(published: str) -> None:
    entry = read_vectors(VECTORS)[published]
    supernet = Supernet(SPACES[SPACE_NAMES.get(published, published)]).eval()
    supernet.load_state_dict(from_published(supernet, filled_state(entry["state_dict"])))
    for vector in entry["vectors"]:
        worst, parameters_equal = compare(supernet, vector)
        assert worst <= 1e-3
        assert parameters_equal


@needs_vectors
@pytest.mark.parametrize("published", PUBLISHED)
def test_keys_and_shapes_are_the_published_ones_and_nothing_is_left_over(published: str) -> None:
    supernet = Supernet(SPACES[SPACE_NAMES.get(published, published)])
    ours = dict(published_keys(supernet))
    assert len(set(ours.values())) == len(ours) == len(read_vectors(VECTORS)[published]["state_dict"])
    assert set(ours) == set(supernet.state_dict())


@needs_vectors
def test_a_wrong_weight_shows_in_the_comparison() -> None:
    entry = read_vectors(VECTORS)["ofa-mbv3-w1.0"]
    supernet = Supernet(SMALL).eval()
    supernet.load_state_dict(from_published(supernet, filled_state(entry["state_dict"])))
    with torch.no_grad():
        supernet.get_parameter("blocks.stage3_1.depthwise.conv.transforms.7to5").copy_(torch.eye(25))
    worst, _ = compare(supernet, entry["vectors"][3])
    assert worst > 1e-3


@pytest.fixture(scope="module")
def supernet() -> Supernet:
    return Supernet(SMALL, generator=torch.Generator().manual_seed(0)).eval()


@pytest.fixture(scope="module")
def state(supernet: Supernet) -> dict[str, torch.Tensor]:
    """A checkpoint in the published spelling."""
    ours = supernet.state_dict()
    return {
        key: ours[name][:, :, None, None] if name.endswith("feature.weight") else ours[name]
        for name, key in published_keys(supernet)
    }


def saved(tmp_path: Path, data: Any) -> Path:
    path = tmp_path / "checkpoint.pth"
    torch.save(data, path)
    return path


def old_spelling(key: str) -> str:
    """As in the files of 2019 and 2020: another block name; layers written once or twice."""
    key = key.replace(".conv.inverted_bottleneck.", ".mobile_inverted_conv.inverted_bottleneck.")
    key = key.replace(".conv.depth_conv.", ".mobile_inverted_conv.depth_conv.")
    return key.replace(".conv.point_linear.conv.", ".mobile_inverted_conv.point_linear.conv.conv.")


@pytest.mark.parametrize("form", ["plain", "wrapped", "old", "parallel", "without counters"])
def test_every_published_form_is_read(
    form: str, supernet: Supernet, state: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    data: Any = {
        "plain": state,
        "wrapped": {"state_dict": state, "epoch": 3},
        "old": {old_spelling(key): value for key, value in state.items()},
        "parallel": {f"module.{key}": value for key, value in state.items()},
        "without counters": {key: value for key, value in state.items() if "num_batches" not in key},
    }[form]
    loaded = load_published(saved(tmp_path, data), space=SMALL).supernet
    assert not loaded.training
    assert all(torch.equal(value, supernet.state_dict()[key]) for key, value in loaded.state_dict().items())


@pytest.mark.parametrize("form", ["lacks its head", "has another head"])
def test_a_backbone_is_read_without_its_last_layer(
    form: str, supernet: Supernet, state: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    head = {key for key in state if key.startswith("classifier")}
    assert len(head) == 2
    data = {key: value for key, value in state.items() if key not in head}
    if form == "has another head":
        data |= {key: state[key][:7] for key in head}
    path = saved(tmp_path, data)
    with pytest.raises(InvalidCheckpoint):
        load_published(path, space=SMALL)
    loaded = load_published(path, space=SMALL, backbone=True)
    assert loaded.read.endswith("the last layer is random")
    other = [
        k for k, v in loaded.supernet.state_dict().items() if not torch.equal(v, supernet.state_dict()[k])
    ]
    assert len(other) <= 2 and all(".linear." in key for key in other)
    with pytest.raises(InvalidCheckpoint, match="missing"):
        load_published(saved(tmp_path, dict(list(data.items())[3:])), space=SMALL, backbone=True)


@pytest.mark.parametrize("name", ["ofa-mbv3-w1.2", "ofa-proxyless", "ofa-resnet50"])
def test_a_checkpoint_of_another_space_is_refused(
    name: str, state: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    with pytest.raises(InvalidCheckpoint, match=rf"not one of {name}.*--space"):
        load_published(saved(tmp_path, state), space=SPACES[name])


@pytest.mark.parametrize(
    ("form", "weights", "read"),
    [
        ("model", None, "read model"),
        ("model_state_dict", None, "read model_state_dict"),
        ("ema", None, "read ema"),
        ("state_dict_ema", None, "read state_dict_ema"),
        ("model.state_dict", None, "read model.state_dict"),
        ("plain and average", None, "read state_dict; not read: state_dict_ema (choose with --weights)"),
        ("plain and average", "ema", "read state_dict_ema; not read: state_dict (choose with --weights)"),
        (
            "plain and average",
            "state_dict",
            "read state_dict; not read: state_dict_ema (choose with --weights)",
        ),
        ("compiled", None, "read the whole file; _orig_mod. taken off every name"),
        ("distributed, compiled", None, "read the whole file; module._orig_mod. taken off every name"),
        ("somebody's own", None, "read model; net.supernet. taken off every name"),
        ("averaged by torch", None, "read the whole file; module. taken off every name; n_averaged left out"),
        ("with options and a score", None, "read model"),
        ("safetensors", None, "read the whole file"),
    ],
)
def test_wrapped_averaged_and_prefixed_weights_are_read_and_that_is_said(
    form: str,
    weights: str | None,
    read: str,
    supernet: Supernet,
    state: dict[str, torch.Tensor],
    tmp_path: Path,
) -> None:
    average = {key: value.clone() for key, value in state.items()}
    optimiser = {"state": {0: {"exp_avg": torch.zeros(2)}}, "param_groups": [{"lr": 0.1}]}
    forms: dict[str, Any] = {
        "model.state_dict": {"model": {"state_dict": state}},
        "plain and average": {
            "state_dict": state,
            "state_dict_ema": average,
            "optimizer": optimiser,
            "epoch": 3,
        },
        "compiled": {f"_orig_mod.{key}": value for key, value in state.items()},
        "distributed, compiled": {f"module._orig_mod.{key}": value for key, value in state.items()},
        "somebody's own": {"model": {f"net.supernet.{key}": value for key, value in state.items()}},
        "averaged by torch": {
            "n_averaged": torch.tensor(7),
            **{f"module.{key}": value for key, value in state.items()},
        },
        "with options and a score": {
            "model": state,
            "args": argparse.Namespace(lr=0.1),
            "best": np.float64(71.5),
        },
    }
    if form == "safetensors":
        path = tmp_path / "weights.pth"
        save_file({key: value.contiguous() for key, value in state.items()}, path)
    else:
        path = saved(tmp_path, forms.get(form, {form: state}))
    found = load_published(path, space=SMALL, weights=weights)
    assert found.read == read
    assert all(
        torch.equal(value, supernet.state_dict()[key]) for key, value in found.supernet.state_dict().items()
    )


def test_the_average_that_was_asked_for_is_the_one_that_is_read(
    state: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    average = {key: value + 1 if value.is_floating_point() else value for key, value in state.items()}
    path = saved(tmp_path, {"state_dict": state, "state_dict_ema": average})
    plain, averaged = (
        load_published(path, space=SMALL, weights=weights).supernet.state_dict() for weights in (None, "ema")
    )
    (bias,) = (name for name in plain if name.endswith(".linear.bias"))
    assert torch.equal(averaged[bias], plain[bias] + 1)


@pytest.mark.parametrize(
    ("names", "weights", "says"),
    [
        (("first", "second"), None, "several state dicts.*--weights, of first, second"),
        (("model", "ema"), "swa", "names 0 of.*model, ema"),
        (("model_ema", "head_ema"), "ema", "names 2 of.*model_ema, head_ema"),
    ],
)
def test_which_of_several_is_asked_where_it_is_not_plain(
    names: tuple[str, ...], weights: str | None, says: str, state: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    with pytest.raises(InvalidCheckpoint, match=says):
        load_published(saved(tmp_path, dict.fromkeys(names, state)), space=SMALL, weights=weights)


def test_whole_modules_programs_and_archives_are_refused_with_what_to_do(tmp_path: Path) -> None:
    path = saved(tmp_path, torch.nn.Sequential(torch.nn.Linear(1, 1)))
    with pytest.raises(
        InvalidCheckpoint, match=r"container.Sequential.*whole pickled module.*model.state_dict\(\)"
    ):
        load_published(path, space=SMALL)
    with pytest.raises(InvalidCheckpoint, match=r"linear.Linear.*whole pickled module"):
        load_published(saved(tmp_path, {"model": torch.nn.Linear(1, 1)}), space=SMALL)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.script(torch.nn.Linear(1, 1)).save(str(path))
    with pytest.raises(InvalidCheckpoint, match=r"TorchScript.*torch.jit.load"):
        load_published(path, space=SMALL)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("weights/net.pth", "x")
    with pytest.raises(InvalidCheckpoint, match=r"archive of files \(weights/net.pth\); unpack"):
        load_published(path, space=SMALL)


def test_a_head_of_other_classes_is_taken_when_its_number_is_given(tmp_path: Path) -> None:
    flowers = Supernet(SMALL.with_classes(7), generator=torch.Generator().manual_seed(1)).eval()
    ours = flowers.state_dict()
    path = saved(tmp_path, {key: ours[name] for name, key in published_keys(flowers)})
    with pytest.raises(InvalidCheckpoint, match="tells 7 classes apart.*--classes 7"):
        load_published(path, space=SMALL)
    found = load_published(path, space=SMALL.with_classes(7)).supernet
    assert found.space.classes == 7
    assert all(torch.equal(value, ours[name]) for name, value in found.state_dict().items())


def test_missing_unknown_and_misshapen_tensors_are_named(
    state: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    without = {key: value for key, value in state.items() if key != "classifier.linear.bias"}
    with pytest.raises(InvalidCheckpoint, match=r"1 tensors missing \(classifier.linear.bias\)"):
        load_published(saved(tmp_path, without), space=SMALL)
    with pytest.raises(InvalidCheckpoint, match=r"1 unknown \(more\)"):
        load_published(saved(tmp_path, {**state, "more": torch.zeros(1)}), space=SMALL)
    with pytest.raises(
        InvalidCheckpoint, match=r"classifier.linear.bias has shape \(10,\) instead of \(1000,\)"
    ):
        load_published(saved(tmp_path, {**state, "classifier.linear.bias": torch.zeros(10)}), space=SMALL)
    with pytest.raises(InvalidCheckpoint, match="not finite"):
        load_published(
            saved(tmp_path, {**state, "classifier.linear.bias": torch.full((1000,), torch.nan)}), space=SMALL
        )
    with pytest.raises(InvalidCheckpoint, match="two tensors"):
        load_published(
            saved(tmp_path, {**state, "classifier.linear.linear.bias": torch.zeros(1000)}), space=SMALL
        )


def test_damaged_files_and_files_of_something_else_are_refused(
    state: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    whole = saved(tmp_path, state).read_bytes()
    for number, content in enumerate((b"", b"not a checkpoint", whole[: len(whole) // 2])):
        path = tmp_path / f"{number}.pth"
        path.write_bytes(content)
        with pytest.raises(InvalidCheckpoint, match="damaged|no state dict"):
            load_published(path, space=SMALL)
    with pytest.raises(InvalidCheckpoint, match="no file"):
        load_published(tmp_path / "absent.pth", space=SMALL)
    with pytest.raises(InvalidCheckpoint, match="no state dict"):
        load_published(saved(tmp_path, {"accuracy": 76.0}), space=SMALL)
    with pytest.raises(InvalidCheckpoint, match="unknown checkpoint format"):
        load_published(tmp_path / "x.pth", space=SMALL, format="caffe")


def test_no_flipped_byte_raises_anything_else(tmp_path: Path) -> None:
    tensors = {"classifier.linear.bias": torch.zeros(3), "more": torch.zeros(2, 2)}
    whole = bytearray(saved(tmp_path, tensors).read_bytes())
    generator = np.random.default_rng(0)
    for at in generator.integers(0, len(whole), 100):
        damaged = bytearray(whole)
        damaged[at] ^= int(generator.integers(1, 256))
        path = tmp_path / "damaged.pth"
        path.write_bytes(bytes(damaged))
        with warnings.catch_warnings(), pytest.raises(InvalidCheckpoint):
            warnings.simplefilter("ignore")
            load_published(path, space=TINY)


class _Harmful:
    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return (exec, ("raise SystemExit('code of a checkpoint was run')",))


def test_code_in_a_checkpoint_is_not_run(tmp_path: Path) -> None:
    path = tmp_path / "harmful.pth"
    path.write_bytes(pickle.dumps({"state_dict": _Harmful()}, protocol=2))
    with pytest.raises(InvalidCheckpoint, match="more than tensors"):
        load_published(path, space=SMALL)
    with pytest.raises(InvalidCheckpoint, match="more than tensors"):
        load_published(saved(tmp_path, {"state_dict": _Harmful()}), space=SMALL)


@pytest.mark.parametrize("name", ["proxyless"])
def test_a_space_that_was_never_published_this_way_says_so(name: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidCheckpoint, match="no published checkpoints"):
        load_published(saved(tmp_path, {"x": torch.zeros(1)}), space=SPACES[name])
