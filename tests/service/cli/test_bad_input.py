"""Every command of the tree meets what people mistype: a clear word on standard error, a status, nothing else.

What a single option refuses is tested beside its command; here no command is left out.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from service.cli.app import command_tree
from service.cli.json_mode import OWN_PARSER, leaves
from tests.service.cli.conftest import Bespoke, Outcome

TREE = {
    " ".join(path): command for path, command in leaves(command_tree()) if " ".join(path) not in OWN_PARSER
}
NOTHING = "no-such-thing"
OFFLINE = (  # they ask no service: it is on this machine, or there is none yet
    "serve", "demo", "doctor", "tables convert", "datasets check", "datasets vocabulary", "spaces advise",
    "supernets cut", "models run", "quarantine list", "quarantine requeue", "quarantine delete",
)  # fmt: skip
FILES = ("Path", "list[Path]")
NUMBERS = ("int", "float", "list[int]")


def required(command: Any) -> list[Any]:
    return [p for p in command.params if p.required]


def kind(parameter: Any) -> str:
    """The name of its Python type."""
    return str(parameter.bare_type())


MADE = {
    "tables": "made.json",
    "devices plot": "made.svg",
    "devices export": "made.zip",
    "supernets cut": "made.onnx",
}
MISTYPED = {
    "devices add": "No such thing",
    "keys create": "no:such-thing",
}  # any other name would be a good one
SAID_INSTEAD = {  # the service never repeats what it was sent in a body: the list of what there is says which it is
    "front": "no supernet is trained",
    "compress": "name what it has to keep: --budget-ms MS",
    "devices add": "/name",
    "keys create": "known scopes are",
    "spaces advise": "unknown search space; known are",
    "supernets train": "unknown search space; known are",
}


def words(name: str, value: str, folder: Path) -> list[str]:
    """The shortest command line that names everything required, each by `value`; what is written goes to
    `folder`."""
    found = []
    for p in required(TREE[name]):
        option = [p.opts[0]] if p.param_type_name == "option" else []
        if p.name == "output":
            said = str(folder / MADE.get(name, MADE.get(name.partition(" ")[0], "made")))
        elif name == "datasets vocabulary" and option:
            said = p.name  # two languages, which need different names
        else:
            said = "1" if kind(p) in NUMBERS else value
        found += [*option, said]
    return found


def nothing_made(folder: Path) -> bool:
    return not list(folder.glob("made*"))


def is_clear(told: Outcome, *statuses: int) -> None:
    """One error, no trace of the program's inside, nothing on standard output that a script would take for an
    answer."""
    assert told.status in (statuses or (1, 2)), told
    assert told.err.strip() and "Traceback" not in told.err + told.out, told
    assert "Error(" not in told.err and "Errno" not in told.err, f"Python's words, not ours: {told.err}"
    assert not told.out.strip(), told.out


@pytest.mark.parametrize("name", TREE)
def test_an_option_that_does_not_exist(name: str, bespoke: Bespoke) -> None:
    told = bespoke(*name.split(), "--no-such-option")
    is_clear(told, 2)
    assert "--no-such-option" in told.err


@pytest.mark.parametrize(
    ("name", "option"),
    [(n, p.opts[0]) for n, c in TREE.items() for p in c.params if kind(p) in NUMBERS and p.param_type_name == "option"],
)  # fmt: skip
def test_a_number_that_is_none(name: str, option: str, bespoke: Bespoke, tmp_path: Path) -> None:
    told = bespoke(*name.split(), *words(name, NOTHING, tmp_path), option, "many")
    is_clear(told, 2)
    assert option in told.err


@pytest.mark.parametrize("name", [name for name, command in TREE.items() if required(command)])
def test_what_is_required_and_not_there(name: str, bespoke: Bespoke) -> None:
    told = bespoke(*name.split())
    is_clear(told, 2)
    assert "missing" in told.err.lower()


@pytest.mark.parametrize("name", [name for name, command in TREE.items() if required(command)])
def test_names_and_files_that_do_not_exist(name: str, bespoke: Bespoke, tmp_path: Path) -> None:
    told = bespoke(*name.split(), *words(name, MISTYPED.get(name, NOTHING), tmp_path))
    is_clear(told)
    assert NOTHING in told.err or SAID_INSTEAD.get(name, NOTHING) in told.err, (
        f"it does not say which is wrong: {told.err}"
    )
    assert nothing_made(tmp_path), "a command that failed left a file"


GARBAGE = {
    "empty": b"",
    "binary": bytes(range(256)) * 40,
    "brackets": b"[" * 100_000,
    "utf16": "device: a".encode("utf-16"),
}


@pytest.mark.parametrize("garbage", GARBAGE)
@pytest.mark.parametrize(
    "name", [name for name, c in TREE.items() if any(kind(p) in FILES for p in required(c) if p.name != "output")]
)  # fmt: skip
def test_files_of_nothing_that_is_known(name: str, garbage: str, bespoke: Bespoke, tmp_path: Path) -> None:
    file = tmp_path / "given.yaml"
    file.write_bytes(GARBAGE[garbage])
    told = bespoke(*name.split(), *words(name, str(file), tmp_path))
    is_clear(told)
    assert nothing_made(tmp_path), "a command that failed left a file"


@pytest.mark.parametrize("name", [name for name in TREE if name not in OFFLINE])
def test_a_service_that_does_not_answer(name: str, bespoke: Bespoke, tmp_path: Path) -> None:
    file = tmp_path / "given.yaml"
    file.write_text("devices: [{name: board, context: {runtime_version: '1.31'}}]\n", encoding="utf-8")
    told = bespoke(
        "--url",
        "http://127.0.0.1:1",
        "--key",
        "bsk_x",
        *name.split(),
        *words(name, str(file), tmp_path),
    )
    is_clear(told)
    assert nothing_made(tmp_path)


@pytest.mark.parametrize("garbage", [*GARBAGE, "list"])
def test_a_context_that_is_none(garbage: str, bespoke: Bespoke, tmp_path: Path) -> None:
    file = tmp_path / "context.json"
    file.write_bytes({**GARBAGE, "list": b"[1]"}[garbage])
    told = bespoke("devices", "add", "phone", "--context", file)
    is_clear(told)
    assert "context.json" in told.err
