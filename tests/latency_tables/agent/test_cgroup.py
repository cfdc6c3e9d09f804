"""CPU quotas as the two versions of control groups write them."""

from __future__ import annotations

from pathlib import Path

import pytest

from latency_tables.agent import environment
from latency_tables.agent.cgroup import cpu_quota
from latency_tables.trust import check_quota, needs_review

Files = dict[str, str]


@pytest.mark.parametrize(
    ("membership", "files", "cores"),
    [
        pytest.param("0::/\n", {"cpu.max": "20000 100000"}, 0.2, id="version 2, in a container"),
        pytest.param(
            "0::/a/b\n",
            {"a/cpu.max": "50000 100000", "a/b/cpu.max": "max 100000"},
            0.5,
            id="version 2, the parent's",
        ),
        pytest.param(
            "0::/a/b\n",
            {"a/cpu.max": "300000 100000", "a/b/cpu.max": "150000 100000"},
            1.5,
            id="the smallest holds",
        ),
        pytest.param("0::/\n", {"cpu.max": "max 100000"}, None, id="version 2, no limit"),
        pytest.param(
            "4:cpu,cpuacct:/docker/1\n",
            {"cpu,cpuacct/cpu.cfs_quota_us": "20000", "cpu,cpuacct/cpu.cfs_period_us": "100000"},
            0.2,
            id="version 1, the host's path in a container",
        ),
        pytest.param(
            "5:memory:/x\n1:cpu:/x\n0::/\n",
            {"cpu/x/cpu.cfs_quota_us": "75000", "cpu/x/cpu.cfs_period_us": "50000"},
            1.5,
            id="version 1, hybrid",
        ),
        pytest.param(
            "1:cpu:/\n",
            {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"},
            None,
            id="version 1, no limit",
        ),
        pytest.param(
            "1:cpuset:/\n",
            {"cpu/cpu.cfs_quota_us": "1", "cpu/cpu.cfs_period_us": "2"},
            None,
            id="another controller",
        ),
        pytest.param("0::/\n", {"cpu.max": "a b"}, None, id="not numbers"),
        pytest.param("0::/\n", {"cpu.max": "1 0"}, None, id="no period"),
        pytest.param("nonsense\n", {}, None, id="nonsense"),
    ],
)
def test_the_quota_of_a_container_is_read(
    membership: str, files: Files, cores: float | None, tmp_path: Path
) -> None:
    (tmp_path / "membership").write_text(membership)
    for name, text in files.items():
        (tmp_path / "tree" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "tree" / name).write_text(text + "\n")
    assert cpu_quota(tmp_path / "membership", tmp_path / "tree") == cores


def test_a_system_without_control_groups_has_no_quota(tmp_path: Path) -> None:
    assert cpu_quota(tmp_path / "missing", tmp_path) is None


def test_the_quota_is_recorded_and_belongs_to_what_must_stay_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    free = {**environment.environment(1), "cpu_quota": None}
    limited = {**free, "cpu_quota": 0.5}
    assert environment.fingerprint(limited) != environment.fingerprint(free)
    older = {name: value for name, value in free.items() if name != "cpu_quota"}
    assert environment.fingerprint(older) == environment.fingerprint(free), (
        "an agent that is upgraded keeps its session"
    )
    monkeypatch.setattr(environment, "cpu_quota", lambda: 0.2)
    assert environment.environment(1)["cpu_quota"] == 0.2


@pytest.mark.parametrize(
    ("quota", "threads", "named"), [(0.2, 1, True), (2, 4, True), (2, 1, False), (None, 1, False)]
)
def test_a_quota_that_pauses_the_runtime_is_a_warning(quota: object, threads: int, named: bool) -> None:
    found = check_quota(quota, threads)
    assert [f.kind for f in found] == ["cpu_quota"] * named
    assert not needs_review(found)
    assert not found or f"{quota:g} cores" in found[0].message


@pytest.mark.parametrize("quota", ["0.2", True, [], -1, float("nan")])
def test_a_quota_that_an_agent_made_up_is_none(quota: object) -> None:
    assert check_quota(quota, 4) == []
