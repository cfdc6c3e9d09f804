"""Over the whole command tree: `--json` everywhere, man pages that say what the tree says, completion."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from service.cli.app import command_tree
from service.cli.json_mode import OPTION, OWN_PARSER, leaves
from service.cli.manual import pages
from tests.service.api import CONTEXT, table_rows
from tests.service.cli.conftest import Bespoke, Server

TREE = {" ".join(path): command for path, command in leaves(command_tree())}
MAN = Path(__file__).parents[3] / "man"


@pytest.mark.parametrize("name", [name for name in TREE if name not in OWN_PARSER])
def test_every_command_has_one_json_option_with_help(name: str) -> None:
    found = [p for p in TREE[name].params if OPTION in p.opts]
    assert len(found) == 1
    assert found[0].is_flag and found[0].help


@pytest.fixture
def device(server: Server) -> str:
    with server.client() as service:
        if "tree" not in [d["name"] for d in service.devices()]:
            service.add_device("tree", CONTEXT, "")
            service.call("POST", "/v1/devices/tree/tables", json={"context": CONTEXT, "rows": table_rows()})
    return "tree"


QUICK = {
    "devices list": list, "devices show tree": dict, "devices enrol tree": dict, "tables list tree": list, "tables use tree 1": dict,
    "datasets list": list, "supernets list": list, "jobs list": list, "models list": list, "keys list": dict,
    "keys create test --scope jobs:read": dict, "quarantine list": dict, "open": dict, "devices add other --runtime-version 1.31": dict,
    "devices remove other --yes": dict, "tables export tree -o FILE.csv": dict,
}  # fmt: skip


def test_what_it_prints_is_one_json_value_and_nothing_else(
    device: str, bespoke: Bespoke, tmp_path: Path
) -> None:
    for text, kind in QUICK.items():
        words = [str(tmp_path / word) if word.startswith("FILE") else word for word in text.split()]
        told = bespoke(*words, OPTION)
        assert told.status == 0, (text, told.err)
        assert isinstance(json.loads(told.out), kind), text
    made = json.loads(bespoke("keys", "create", "test", "--scope", "jobs:read", OPTION).out)
    assert {"id", "key"} <= set(made), "a program gets the fields, not a sentence"


def test_an_error_is_told_on_standard_error_with_its_status(bespoke: Bespoke) -> None:
    told = bespoke("jobs", "cancel", "job_" + "0" * 32, OPTION)
    assert (told.status, told.out) == (1, "")
    assert "error" in told.err


def test_man_pages_are_those_of_the_tree() -> None:
    found = {file.name: file.read_text(encoding="utf-8") for file in MAN.glob("*.1")}
    assert found == pages(), (
        "the command line changed: `python -m service.cli.manual man/` writes its pages anew"
    )


@pytest.mark.skipif(shutil.which("man") is None, reason="man is not installed here")
def test_man_shows_a_page() -> None:
    shown = subprocess.run(
        ["man", "-P", "cat", str(MAN / "bespoke-search.1")],
        capture_output=True, text=True, check=True, env={**os.environ, "MANWIDTH": "100"},
    )  # fmt: skip
    assert "--budget-ms" in shown.stdout


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_knows_the_commands(shell: str) -> None:
    """What docs/commands.md tells people to source."""
    environment = {**os.environ, "_BESPOKE_COMPLETE": f"source_{shell}"}
    code = "import sys; from service.cli.entry import main; sys.argv[:] = ['bespoke']; sys.exit(main())"
    shown = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=False
    )
    assert "_BESPOKE_COMPLETE" in shown.stdout, shown.stderr


def test_what_was_done_before_an_error_is_told_too(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import typer

    from service.cli.json_mode import with_json
    from service.cli.screen import result, say
    from service.client import ClientError

    app = typer.Typer()

    @app.command()
    def half() -> None:
        """One of two."""
        say("one is done")
        result({"done": 1})
        raise ClientError("the other is not")

    with pytest.raises(ClientError):
        with_json(app)([OPTION], standalone_mode=False)
    assert json.loads(capsys.readouterr().out) == {"done": 1}
    assert len(with_json(with_json(app)).registered_commands) == 1, "twice changes nothing"
