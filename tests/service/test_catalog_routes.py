"""Spaces, operators, data sets, limits, health."""

from __future__ import annotations

import pytest

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
    for label in ("cat", "dog"):
        (tmp_path / "pets" / "train" / label).mkdir(parents=True)
    api = make_api(datasets={"pets": tmp_path / "pets"})
    listed = {item["name"]: item for item in api.get("/v1/datasets").json()["items"]}
    assert listed["digits"]["classes"] == 10
    assert listed["pets"]["classes"] == 2
    assert str(tmp_path) not in api.get("/v1/datasets").text
    limits = api.get("/v1/limits").json()
    assert limits["limits"]["max_table_bytes"] == 64 * 2**20
    assert "exact" in limits["strategies"]
    assert "quick" in limits["recipes"]


def test_every_operation_names_its_scope_and_its_errors(api: Api) -> None:
    document = api.get("/openapi.json", key=None).json()
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            assert operation["x-scope"], (method, path)
            assert "application/problem+json" in operation["responses"]["default"]["content"], (method, path)
            assert "422" not in operation["responses"], (method, path)
