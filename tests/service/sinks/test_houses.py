"""A push to a hub and to MLflow: all of it is there afterwards, or nothing is."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from service.sinks.catalog import OWN, sink_named, sinks
from service.sinks.errors import PushFailed
from service.sinks.files import Release
from tests.service.sinks.houses import House, hub, mlflow, open_house
from tests.service.sinks.test_folder import CARD

PLACES = {"huggingface": "team/pixel7", "mlflow": "phones/pixel7"}


@pytest.fixture
def release(tmp_path: Path) -> Release:
    file = tmp_path / "in.onnx"
    file.write_bytes(b"the network")
    sha256 = hashlib.sha256(b"the network").hexdigest()
    return Release({**CARD, "file": {**CARD["file"], "sha256": sha256}}, file)


@pytest.fixture
def a_hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[House]:
    with open_house(hub) as house:
        monkeypatch.setenv("HF_ENDPOINT", house.url)
        monkeypatch.setenv("HF_TOKEN", "secret-token")
        yield house


@pytest.fixture
def an_mlflow(monkeypatch: pytest.MonkeyPatch) -> Iterator[House]:
    with open_house(mlflow) as house:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", house.url)
        monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "secret-token")
        yield house


def test_hub_gets_one_commit_with_all_files_in_a_private_repository(a_hub: House, release: Release) -> None:
    assert sink_named("huggingface")(release, "team/pixel7") == f"{a_hub.url}/team/pixel7"
    found = a_hub.state["repositories"]["team/pixel7"]
    assert found == release.files()
    assert a_hub.state["private"] is True
    assert sum(path.endswith("/commit/main") for _, path, _ in a_hub.seen) == 1
    assert all(token is None for _, path, token in a_hub.seen if path.startswith("/storage/")), (
        "signed addresses get no token"
    )
    sent = sum(path.startswith("/storage/") for _, path, _ in a_hub.seen)
    sink_named("huggingface")(release, "team/pixel7")
    assert sum(path.startswith("/storage/") for _, path, _ in a_hub.seen) == sent, (
        "what the hub has is not sent again"
    )


@pytest.mark.parametrize("where", ["/preupload/", "objects/batch", "PUT /storage", "/commit/"])
def test_hub_has_nothing_after_a_push_that_broke_off(a_hub: House, release: Release, where: str) -> None:
    a_hub.break_at = where
    with pytest.raises(PushFailed, match="does not answer"):
        sink_named("huggingface")(release, "team/pixel7")
    assert a_hub.state["repositories"] == {}, "a repository that was made for it is gone again"
    a_hub.break_at = None
    a_hub.state["repositories"]["team/old"] = {"README.md": b"theirs"}
    a_hub.break_at = where
    a_hub.state["blobs"] = {}
    with pytest.raises(PushFailed):
        sink_named("huggingface")(release, "team/old")
    assert a_hub.state["repositories"] == {"team/old": {"README.md": b"theirs"}}, (
        "one that was there is as it was"
    )


def test_mlflow_gets_a_run_with_files_numbers_and_a_version(an_mlflow: House, release: Release) -> None:
    url = sink_named("mlflow")(release, "phones/pixel7")
    (run,) = an_mlflow.state["runs"].values()
    assert url.endswith(run["info"]["run_id"])
    assert (run["status"], run["stage"]) == ("FINISHED", "active")
    assert {m["key"]: m["value"] for m in run["metrics"]}["latency_measured_ms"] == 1.9
    root = f"{run['info']['experiment_id']}/{run['info']['run_id']}/artifacts/model"
    assert {f"{root}/{n}": d for n, d in release.files().items()}.items() <= an_mlflow.state[
        "artifacts"
    ].items()
    described = json.loads(an_mlflow.state["artifacts"][f"{root}/MLmodel"])
    assert described["flavors"]["onnx"]["data"] == "model.onnx"
    (version,) = an_mlflow.state["models"]["pixel7"]
    assert version["source"] == f"{run['info']['artifact_uri']}/model"
    sink_named("mlflow")(release, "phones")
    assert list(an_mlflow.state["experiments"]) == ["phones"]
    assert len(an_mlflow.state["models"]["pixel7"]) == 1, "without a name nothing is registered"


@pytest.mark.parametrize("where", ["PUT /api", "log-batch", "model-versions", "registered-models/get"])
def test_mlflow_has_nothing_after_a_push_that_broke_off(
    an_mlflow: House, release: Release, where: str
) -> None:
    an_mlflow.break_at = where
    with pytest.raises(PushFailed, match="does not answer"):
        sink_named("mlflow")(release, "phones/pixel7")
    assert an_mlflow.state["artifacts"] == {}
    assert [run["stage"] for run in an_mlflow.state["runs"].values()] == ["deleted"]
    assert not any(an_mlflow.state["models"].values())


def test_mlflow_that_keeps_files_elsewhere_is_refused(an_mlflow: House, release: Release) -> None:
    an_mlflow.state["root"] = "s3://bucket/"
    with pytest.raises(PushFailed, match="--serve-artifacts"):
        sink_named("mlflow")(release, "phones")
    assert [run["stage"] for run in an_mlflow.state["runs"].values()] == ["deleted"]


@pytest.mark.parametrize("kind", sorted(PLACES))
def test_wrong_token_wrong_place_and_no_server_are_said(
    kind: str, request: pytest.FixtureRequest, release: Release, monkeypatch: pytest.MonkeyPatch
) -> None:
    house = request.getfixturevalue({"huggingface": "a_hub", "mlflow": "an_mlflow"}[kind])
    house.token = "another"
    with pytest.raises(PushFailed, match="401") as refused:
        sink_named(kind)(release, PLACES[kind])
    assert "secret-token" not in str(refused.value)
    with pytest.raises(PushFailed, match="a place"):
        sink_named(kind)(release, "a/b/c")
    for name in ("HF_TOKEN", "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(PushFailed, match="HF_TOKEN|MLFLOW_TRACKING_URI"):
        sink_named(kind)(release, PLACES[kind])


@pytest.mark.parametrize("kind", sorted(OWN))
def test_a_network_for_limits_alone_is_handed_over_too(
    kind: str, request: pytest.FixtureRequest, release: Release, tmp_path: Path
) -> None:
    if kind != "folder":
        request.getfixturevalue({"huggingface": "a_hub", "mlflow": "an_mlflow"}[kind])
    card: dict[str, Any] = {
        **release.card,
        "device": None,
        "budget_ms": None,
        "latency": {"predicted_ms": None},
    }
    sink_named(kind)(Release(card, release.onnx), PLACES.get(kind, str(tmp_path / "out")))


def test_a_package_adds_a_place_and_takes_none_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    class Entry:
        def __init__(self, name: str) -> None:
            self.name = name

        def load(self) -> Any:
            return lambda release, place: f"{self.name}:{place}"

    monkeypatch.setattr("service.sinks.catalog.entry_points", lambda group: [Entry("shelf"), Entry("folder")])
    assert set(sinks()) == {*OWN, "shelf"}
    assert sinks()["folder"] is OWN["folder"]
