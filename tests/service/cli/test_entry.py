"""The console script where only a role's extra is installed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.service.api import CONTEXT
from tests.service.cli.conftest import Server

WITHOUT = (
    "import sys\nfor name in {names!r}: sys.modules[name] = None\nsys.argv = ['bespoke', *{arguments!r}]\n"
)
RUN = "from service.cli.entry import main\ncode = main()\n"


def run(names: list[str], arguments: list[str], then: str = "") -> subprocess.CompletedProcess[str]:
    """Run the script in a fresh interpreter in which these packages cannot be imported."""
    program = WITHOUT.format(names=names, arguments=arguments) + RUN + then + "sys.exit(code)\n"
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)


@pytest.mark.parametrize("missing", ["typer", "rich", "httpx"])
def test_a_missing_extra_is_named(missing: str) -> None:
    done = run([missing], ["jobs", "list"])
    assert done.returncode == 1
    assert missing in done.stderr and "bespoke-nas[service]" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_agent_needs_nothing_but_its_own_extra(tmp_path: Path) -> None:
    absent = [
        "typer",
        "rich",
        "click",
        "pydantic",
        "fastapi",
        "sqlalchemy",
        "torch",
        "onnx",
        "matplotlib",
        "scipy",
    ]
    script = "import sys\n"
    arguments = ["--server", "http://127.0.0.1:9", "--patience-s", "0.1", "--state-dir", str(tmp_path)]
    done = run(absent, ["agent", *arguments], script)
    assert "--token" in done.stderr and "is not installed" not in done.stderr
    assert done.returncode == 1


def test_no_command_loads_torch_to_show_its_help() -> None:
    program = (
        "import sys\nfrom service.cli.app import run\n"
        "assert run(['search', '--help']) == 0\n"
        "sys.exit(sum(name in sys.modules for name in ('torch', 'matplotlib', 'sqlalchemy', 'fastapi', "
        "'dbos')))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("encoding", ["cp1252", "ascii", "utf-8"])
def test_a_terminal_that_lacks_a_character_still_shows_the_list(encoding: str, server: Server) -> None:
    with server.client() as service:
        if "uni" not in {device["name"] for device in service.devices()}:
            service.add_device("uni", CONTEXT, "Телефон 猫")
    for arguments in (["devices", "list"], ["devices", "show", "uni"], ["devices", "list", "--json"]):
        done = subprocess.run(
            [sys.executable, "-m", "service.cli.entry", "--data-dir", str(server.data_dir), *arguments],
            env={**os.environ, "PYTHONIOENCODING": encoding},
            capture_output=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert b"uni" in done.stdout and b"Traceback" not in done.stderr


POSIX_ONLY = ["fcntl", "resource"]


@pytest.mark.parametrize("module", ["service", "worker"])
def test_the_service_says_in_one_sentence_where_it_cannot_run(module: str, tmp_path: Path) -> None:
    blocked = f"import sys, runpy\nfor name in {POSIX_ONLY}: sys.modules[name] = None\n"
    program = f"{blocked}runpy.run_module({module!r}, run_name='__main__')"
    scrubbed = {**os.environ, "BESPOKE_DATA_DIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False, env=scrubbed
    )
    assert done.returncode != 0
    assert "Linux and macOS" in done.stderr and done.stderr.count("\n") == 1


@pytest.mark.parametrize("arguments", [["serve"], ["supernets", "import", __file__, "--space", "ofa-mbv3"]])
def test_a_command_of_the_service_says_the_same(arguments: list[str], tmp_path: Path) -> None:
    done = run(POSIX_ONLY, ["--data-dir", str(tmp_path), *arguments])
    assert done.returncode == 1
    assert "Linux and macOS" in done.stderr and "Traceback" not in done.stderr


def test_agent_and_client_run_without_what_is_posix_only(server: Server, tmp_path: Path) -> None:
    done = run(POSIX_ONLY, ["--data-dir", str(server.data_dir), "devices", "list"])
    assert done.returncode == 0, done.stderr
    done = run(
        POSIX_ONLY, ["agent", "--server", server.url, "--state-dir", str(tmp_path), "--patience-s", "0"]
    )
    assert done.returncode == 1 and "--token" in done.stderr
