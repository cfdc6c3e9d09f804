"""Spaces, operators, data sets, limits, health."""

from __future__ import annotations

import gzip
import shutil
import struct

import numpy as np
import pytest
from PIL import Image

from supernets.spaces.catalog import SPACES
from supernets.spaces.lowering import all_operators
from tests.service.api import Api, is_problem


def test_health_needs_no_key(both: Api) -> None:
    for path in ("/healthz", "/readyz", "/openapi.json", "/docs"):
        assert both.get(path, key=None).status_code == 200


def test_docs_lists_every_call_and_loads_nothing(api: Api) -> None:
    page = api.get("/docs", key=None).text
    for path in api.get("/openapi.json", key=None).json()["paths"]:
        assert path in page
    assert "<script" not in page
    assert "src=" not in page


def test_readyz_says_when_the_artifact_store_is_away(api: Api) -> None:
    api.services.store.root.rmdir()
    answer = api.get("/readyz", key=None)
    assert answer.status_code == 503
    assert answer.json()["checks"]["artifacts"] != "ok"
    assert api.get("/healthz", key=None).status_code == 200


@pytest.mark.parametrize("name", SPACES)
def test_spaces_and_their_operators(api: Api, name: str) -> None:
    space = SPACES[name]
    listed = {item["name"]: item for item in api.get("/v1/spaces").json()["items"]}
    assert listed[name]["resolutions"] == list(space.resolutions)
    assert listed[name]["subnetworks"] == space.count()
    assert api.get(f"/v1/spaces/{name}").json() == listed[name]
    resolution = space.resolutions[0]
    items = api.get(f"/v1/spaces/{name}/operators?resolution={resolution}").json()["items"]
    wanted = all_operators(space, resolution)
    assert [item["operator"] for item in items] == [op.text for op in wanted]
    assert [item["macs"] for item in items] == [op.macs for op in wanted]


def test_operators_of_another_number_of_classes(api: Api) -> None:
    items = api.get("/v1/spaces/digits-mbv3/operators?resolution=8&classes=7").json()["items"]
    heads = [item for item in items if item["family"] == "head"]
    assert [head["out_channels"] for head in heads] == [7]


def test_unknown_space_and_resolution(api: Api) -> None:
    is_problem(api.get("/v1/spaces/nonsense"), 404)
    is_problem(api.get("/v1/spaces/nonsense/operators"), 404)
    is_problem(api.get("/v1/spaces/digits-mbv3/operators?resolution=9"), 422)


def test_datasets_and_limits(make_api, tmp_path) -> None:  # type: ignore[no-untyped-def]
    for part, label in ((part, label) for part in ("train", "test") for label in ("cat", "dog")):
        (tmp_path / "pets" / part / label).mkdir(parents=True)
        Image.new("RGB", (9, 9)).save(tmp_path / "pets" / part / label / "1.png")
    (tmp_path / "empty").mkdir()
    api = make_api(datasets={"pets": tmp_path / "pets", "empty": tmp_path / "empty"})
    listed = {item["name"]: item for item in api.get("/v1/datasets").json()["items"]}
    assert listed["digits"]["classes"] == 10
    assert (listed["pets"]["classes"], listed["pets"]["channels"]) == (2, 3)
    assert listed["empty"]["classes"] is None
    assert str(tmp_path) not in api.get("/v1/datasets").text
    limits = api.get("/v1/limits").json()
    assert limits["limits"]["max_table_bytes"] == 64 * 2**20
    assert "exact" in limits["strategies"]
    assert "quick" in limits["recipes"]


def test_every_form_of_data_set_can_be_trained_and_a_damaged_one_is_refused(make_api, tmp_path) -> None:  # type: ignore[no-untyped-def]
    """IDX, CIFAR binaries and arrays, not folders of images only; a fault is told at once, without the
    operator's paths."""
    labels = np.arange(12, dtype=np.uint8) % 3
    (tmp_path / "idx").mkdir()
    for stem in ("train", "t10k"):
        (tmp_path / "idx" / f"{stem}-images-idx3-ubyte").write_bytes(
            struct.pack(">4I", 0x803, 12, 8, 8) + bytes(12 * 64)
        )
        (tmp_path / "idx" / f"{stem}-labels-idx1-ubyte").write_bytes(
            struct.pack(">2I", 0x801, 12) + labels.tobytes()
        )
    (tmp_path / "cifar").mkdir()
    for file in ("train.bin", "test.bin"):
        (tmp_path / "cifar" / file).touch()
    np.savez(tmp_path / "grey.npz", images=np.zeros((12, 8, 8), np.uint8), labels=labels)
    np.savez(
        tmp_path / "objects.npz",
        images=np.zeros((12, 8, 8), np.uint8),
        labels=np.array([{}] * 12, dtype=object),
    )
    (tmp_path / "text.npz").write_text("hello")
    shutil.copytree(tmp_path / "idx", tmp_path / "magic")
    (tmp_path / "magic" / "train-images-idx3-ubyte").write_bytes(b"not the magic number")
    shutil.copytree(tmp_path / "idx", tmp_path / "cut")
    whole = gzip.compress((tmp_path / "cut" / "train-labels-idx1-ubyte").read_bytes())
    (tmp_path / "cut" / "train-labels-idx1-ubyte").unlink()
    (tmp_path / "cut" / "train-labels-idx1-ubyte.gz").write_bytes(whole[:-12])
    names = {"idx": "idx", "grey": "grey.npz", "cifar": "cifar", "objects": "objects.npz", "text": "text.npz"}
    places = {
        name: tmp_path / place
        for name, place in {**names, "magic": "magic", "cut": "cut", "absent": "absent"}.items()
    }
    api = make_api(datasets=places)

    def train(dataset: str, space: str = "digits-mbv3"):  # type: ignore[no-untyped-def]
        return api.post("/v1/supernets", {"space": space, "dataset": dataset, "recipe": "trial"})

    assert (
        train("idx").status_code
        == train("grey").status_code
        == train("cifar", "cifar-mbv3").status_code
        == 202
    )
    is_problem(train("cifar"), 422)  # three channels
    said = {
        "objects": "safely",
        "text": "safely",
        "magic": "train-images-idx3-ubyte",
        "cut": "fetch it again",
        "absent": "wanted",
    }
    for name, words in said.items():
        answer = train(name)
        is_problem(answer, 422)
        assert words in answer.json()["detail"] and str(tmp_path) not in answer.text, answer.text


def test_every_operation_names_its_scope_and_its_errors(api: Api) -> None:
    document = api.get("/openapi.json", key=None).json()
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            assert operation["x-scope"], (method, path)
            assert "application/problem+json" in operation["responses"]["default"]["content"], (method, path)
            assert "422" not in operation["responses"], (method, path)
