"""A device: the agent in another process and its own environment, killed and started again, up to a verified
network.

The long form installs the `agent` extra, and nothing else, into a clean environment; the short form profiles
with this environment's agent and ends there.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from latency_tables.operators import Operator
from service.cli.demo import tended, trained_id
from service.cli.supervisor import Stack
from service.client import BespokeClient, find_access
from service.db.models import AgentPost, MeasurementTask, NetworkMeasurement
from service.db.session import create_db_engine
from service.settings import Settings
from supernets.spaces.catalog import SPACES
from supernets.spaces.lowering import all_operators
from tests.worker.installation import eventually

ROOT = Path(__file__).parent.parent.parent
SPACE = SPACES["digits-mbv3"]
RESOLUTION, NETWORKS, GROUP = 8, 6, 10
NEEDED = {op.text for op in all_operators(SPACE, RESOLUTION)}
BARE = {k: v for k, v in os.environ.items() if not k.startswith(("BESPOKE_", "PYTHON"))}


def run(*command: object, cwd: Path) -> str:
    done = subprocess.run(
        [*map(str, command)], cwd=cwd, env=BARE, capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return done.stdout


class Board:
    """A machine with an agent on it: commands to start one, a state folder that outlives them, one log for
    each life."""

    def __init__(self, folder: Path, python: Path, command: list[str]) -> None:
        self.folder, self.python, self.command = folder, python, command
        self.lives: list[subprocess.Popen[bytes]] = []
        folder.mkdir()

    def context(self) -> dict[str, object]:
        """The context an agent of this environment measures in."""
        code = (
            "import json; from latency_tables.agent.runtimes.probe import found; "
            "from latency_tables.agent.runtimes.setup import Setup; "
            "print(json.dumps(found(Setup()).context.as_dict()))"
        )
        found: dict[str, object] = json.loads(run(self.python, "-c", code, cwd=self.folder))
        return found

    def start(self, url: str, token: str | None = None) -> None:
        options = [
            "--server",
            url,
            "--state-dir",
            str(self.folder / "state"),
            "--group",
            str(GROUP),
            "--session-s",
            "2",
        ]
        options += [] if token is None else ["--token", token]
        with (self.folder / f"agent-{len(self.lives)}.log").open("wb") as log:
            self.lives.append(
                subprocess.Popen([*self.command, *options], cwd=self.folder, env=BARE, stderr=log, stdout=log)
            )

    def works(self, _job: object = None) -> None:
        """Fails at once, with its last words, where the agent has ended by itself."""
        assert self.lives[-1].poll() is None, self.log()

    def kill(self) -> None:
        """`kill -9`; the child that measures must not outlive the agent."""
        self.works()
        agent = self.lives[-1]
        children = (Path("/proc") / str(agent.pid) / "task" / str(agent.pid) / "children").read_text().split()
        agent.send_signal(signal.SIGKILL)
        agent.wait()
        assert eventually(lambda: not [c for c in children if alive(c)], 10), (
            "the measuring child outlived its agent"
        )

    def log(self, life: int = -1) -> str:
        return (self.folder / f"agent-{range(len(self.lives))[life]}.log").read_text(errors="replace")

    def __enter__(self) -> Board:
        return self

    def __exit__(self, *reason: object) -> None:
        for agent in self.lives:
            with suppress(ProcessLookupError):
                agent.kill()
            agent.wait()


def alive(pid: str) -> bool:
    try:
        return " Z " not in (Path("/proc") / pid / "stat").read_text()
    except OSError:
        return False


class Records:
    """What the service's database holds about the board's session."""

    def __init__(self, data_dir: Path) -> None:
        self.engine = create_db_engine(Settings(data_dir=data_dir).resolved_database_url)

    def tasks(self, *kinds: str) -> list[MeasurementTask]:
        with Session(self.engine) as session:
            return list(session.scalars(select(MeasurementTask).where(MeasurementTask.kind.in_(kinds))))

    def answered(self) -> dict[str, tuple[object, str | None]]:
        """Task id -> (when, in which session) of what is answered."""
        tasks = self.tasks("operator", "network")
        return {t.id: (t.answered_at, t.session_id) for t in tasks if t.state == "done"}

    def accepted(self) -> int:
        """Answers taken over all posts: more than the tasks there are means that something was measured
        twice."""
        with Session(self.engine) as session:
            return sum(int(post.answer["accepted"]) for post in session.scalars(select(AgentPost)))

    def verified(self) -> list[float]:
        with Session(self.engine) as session:
            return list(
                session.scalars(
                    select(NetworkMeasurement.median_ms).where(NetworkMeasurement.source == "verify")
                )
            )


@pytest.fixture
def stack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stack]:
    monkeypatch.setenv("BESPOKE_DATABASE_URL", "")
    with tended(Stack(tmp_path / "data", port=0, log_dir=tmp_path / "logs")) as running:
        yield running


def profiled_through_kills(board: Board, service: BespokeClient, stack: Stack, kills: int) -> Records:
    """Enrol and profile at one resolution; the agent is killed between its posts and goes on where it was."""
    records = Records(stack.data_dir)
    service.add_device("board", board.context())
    job = service.profile("board", SPACE.name, [RESOLUTION], NETWORKS)
    board.start(stack.url, service.enrol("board")["token"])
    kept: dict[str, tuple[object, str | None]] = {}
    for life in range(kills):
        enough = len(kept) + 1
        assert eventually(lambda n=enough: len(records.answered()) >= n, 240, 0.02), board.log()
        time.sleep(0.3)  # into the middle of the next group
        board.kill()
        now = records.answered()
        assert kept.items() <= now.items() and len(now) < len(NEEDED) + NETWORKS, (
            f"killed too late, in life {life}"
        )
        assert service.device("board")["tables"] == [], "a table is published whole or not at all"
        kept = now
        board.start(stack.url)  # without a token
    service.wait(job.id, board.works, poll_s=0.2)
    assert kept.items() <= records.answered().items()
    given = len(
        records.tasks("operator", "network")
    )  # what did not settle in these short sessions is a task again
    assert records.accepted() == given >= len(NEEDED) + NETWORKS, "what was posted is not measured again"
    totals = [int(n) for n in re.findall(r"measured \d+ of (\d+)", board.log())]
    assert totals and max(totals) <= given - len(kept), board.log()
    assert len({session for _, session in records.answered().values()}) == 1
    check_table(service)
    return records


def check_table(service: BespokeClient) -> None:
    (table,) = service.device("board")["tables"]
    rows = json.loads(service.table("board", table["id"]))["rows"]
    assert {row["operator"] for row in rows} == NEEDED and {Operator.parse(t).text for t in NEEDED} == NEEDED
    assert all(0 < row["lower_quartile_ms"] <= row["median_ms"] and row["count"] > 0 for row in rows)


def test_a_killed_agent_goes_on_where_it_was(stack: Stack, tmp_path: Path) -> None:
    """The short form: this environment's agent, killed once."""
    command = [sys.executable, "-m", "latency_tables.agent"]
    access = find_access(stack.url, data_dir=stack.data_dir)
    with (
        Board(tmp_path / "board", Path(sys.executable), command) as board,
        BespokeClient.from_access(access) as service,
    ):
        profiled_through_kills(board, service, stack, kills=1)


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The `bin` of a clean environment that holds the `agent` extra of this checkout."""
    folder = tmp_path_factory.mktemp("device")
    source = folder / "source"  # a copy: pip leaves a build folder behind
    skipped = shutil.ignore_patterns(
        ".*", "__pycache__", "build", "*.egg-info", "tests", "benchmarks", "docs", "shared"
    )
    shutil.copytree(ROOT, source, ignore=skipped)
    run(sys.executable, "-m", "venv", folder / "env", cwd=folder)
    tool = folder / "env" / "bin"
    run(
        tool / "pip",
        "install",
        "--disable-pip-version-check",
        "-c",
        ROOT / "constraints.txt",
        f"{source}[agent]",
        cwd=folder,
    )
    shutil.rmtree(source)
    return tool


def normal(requirement: str) -> str:
    return re.sub(r"[-_.]+", "-", re.split(r"[^A-Za-z0-9_.-]", requirement)[0]).lower()


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_agent_extra_brings_nothing_else(installed: Path) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = {name: {normal(r) for r in wanted} for name, wanted in project["optional-dependencies"].items()}
    folder = installed.parent
    listed = json.loads(
        run(installed / "pip", "list", "--format", "json", "--disable-pip-version-check", cwd=folder)
    )
    found = {normal(item["name"]) for item in listed}
    assert extras["agent"] | {"numpy", "bespoke-nas"} <= found
    others = set().union(*extras.values()) - extras["agent"] - {"bespoke-nas"}
    assert {"torch", "fastapi", "sqlalchemy", "typer"} <= others
    assert not found & others
    command = [installed / "bespoke", "devices", "list"]
    told = subprocess.run(command, env=BARE, cwd=folder, capture_output=True, text=True, check=False)
    assert told.returncode == 1 and "bespoke-nas[service]" in told.stderr and "Traceback" not in told.stderr


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_from_a_clean_environment_to_a_verified_network(
    installed: Path, stack: Stack, tmp_path: Path
) -> None:
    command = [str(installed / "bespoke"), "agent"]
    access = find_access(stack.url, data_dir=stack.data_dir)
    with (
        Board(tmp_path / "board", installed / "python", command) as board,
        BespokeClient.from_access(access) as service,
    ):
        training = service.train_supernet(SPACE.name, "digits", "trial", 0)
        records = profiled_through_kills(board, service, stack, kills=2)
        trained = service.wait(training.id)
        supernet = trained_id(trained.result)
        points = service.front(supernet, "board")["points"]
        budget_ms = 2 * max(
            p["latency_ms"] for p in points
        )  # what a busy machine takes longer is not the question here
        request = {
            "supernet": supernet,
            "targets": [{"device": "board", "budget": {"latency_ms": budget_ms}}],
            "verify": True,
        }
        done = service.wait(service.search(request).id, board.works)
        (model,) = done.result["models"]
        latency = service.model(model["id"])["latency"]
        assert latency["verified"] and latency["measured_ms"] <= budget_ms
        assert latency["measured_ms"] in records.verified()
        (session,) = {session for _, session in records.answered().values()}
        asked = records.tasks("verify")
        assert asked and all(t.state == "done" and t.session_id == session for t in asked)
        service.download_model(
            model["id"], tmp_path / "board.onnx"
        )  # checked against the SHA-256 of its card
