"""The files of the web UI: all served, small, strict, and the libraries among them what their list says."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from importlib.resources import files

import pytest

from service.http.ui_files import POLICY, ui_files
from tests.service.api import Api, is_problem

FOLDER = files("service") / "ui"
OWN = sorted(name for name in ui_files().files if name.endswith(".js") and not name.startswith("vendor/"))


def text(name: str) -> str:
    return ui_files().files[name].data.decode()


def test_every_file_is_served_with_its_type_and_for_ever(api: Api) -> None:
    shell = api.get("/ui/", key=None)
    assert shell.status_code == 200
    assert shell.headers["content-security-policy"] == POLICY
    assert shell.headers["cache-control"] == "no-store"
    digest = ui_files().digest
    for name, file in ui_files().files.items():
        answer = api.get(f"/ui/{digest}/{name}", key=None)
        assert answer.content == file.data, name
        assert answer.headers["content-type"] == file.media_type
        assert "immutable" in answer.headers["cache-control"]
        assert answer.headers["content-security-policy"] == POLICY
    for name in re.findall(r'(?:href|src)="([^"]+)"', shell.text):
        assert api.get(f"/ui/{name}", key=None).status_code == 200, name


@pytest.mark.parametrize("path", ["/", "/ui"])
def test_the_way_in_is_relative_so_that_any_sub_path_works(api: Api, path: str) -> None:
    answer = api.get(path, key=None, follow_redirects=False)
    assert (answer.status_code, answer.headers["location"]) == (307, "ui/")
    assert not re.search(r'(?:href|src)="(?:/|https?:)', api.get("/ui/", key=None).text)


@pytest.mark.parametrize(
    "path",
    [
        "x/app.js",
        "DIGEST/nothing.js",
        "DIGEST/../../auth.py",
        "DIGEST/%2e%2e/%2e%2e/auth.py",
        "DIGEST/vendor/__init__.py",
    ],
)
def test_other_names_are_not_found(api: Api, path: str) -> None:
    answer = api.get(f"/ui/{path.replace('DIGEST', ui_files().digest)}", key=None)
    is_problem(answer, 404)


def test_all_of_it_is_small() -> None:
    """What a page can load: all but the licences of the libraries, which no page asks for."""
    loaded = [f for name, f in ui_files().files.items() if not name.endswith("LICENSE")]
    assert len(ui_files().shell) + sum(len(f.data) for f in loaded) <= 200_000
    assert sum(len(f.zipped) for f in loaded) <= 80_000


def test_libraries_are_those_of_the_list() -> None:
    rows = re.findall(
        r"^\| `([\w.]+)` \| .+ \| `([0-9a-f]{64})` \|$", (FOLDER / "vendor" / "README.md").read_text(), re.M
    )
    assert {name for name, _ in rows} == {
        n.removeprefix("vendor/") for n in ui_files().files if n.startswith("vendor/") and "LICENSE" not in n
    }
    for name, sha256 in rows:
        assert hashlib.sha256(ui_files().files[f"vendor/{name}"].data).hexdigest() == sha256, name


@pytest.mark.parametrize("name", OWN)
def test_modules_stay_within_the_rules(name: str) -> None:
    source = text(name)
    assert source.count("\n") <= 200
    for word in (
        "innerHTML",
        "outerHTML",
        "insertAdjacentHTML",
        "dangerouslySetInnerHTML",
        "eval(",
        "new Function",
        "document.write",
    ):
        assert word not in source, f"{name}: {word}"
    assert name in ("api.js", "app.js") or not re.search(r"\bfetch\(", source), "only api.js asks the service"
    if name.startswith("charts/"):
        assert "pages/" not in source


def test_fields_that_the_pages_read_are_in_the_contract(api: Api) -> None:
    """Every field of these answers that a page names exists; a field taken out of the contract fails here."""
    schemas = api.get("/openapi.json", key=None).json()["components"]["schemas"]
    read = {
        "JobView": ("j", ("jobs.js", "home.js")), "ModelSummary": ("m", ("models.js", "home.js")),
        "DeviceView": ("d", ("devices.js",)), "SupernetView": ("s", ("supernets.js",)), "BlockView": ("b", ()),
    }  # fmt: skip
    for schema, (letter, modules) in read.items():
        known = set(schemas[schema]["properties"])
        sources = [text(f"pages/{m}") for m in modules] or [text("network.js")]
        used = {
            field
            for source in sources
            for field in re.findall(rf"(?<![\w.]){letter}\.([a-z_]+)\b(?!\()", source)
        }
        strange = used - known - {"name", "state", "seconds", "reused", "latency_ms"}
        assert not strange, f"{schema}: {strange}"


def test_an_old_address_after_an_upgrade_is_not_found_and_says_what_to_do(
    make_api: Callable[..., Api],
) -> None:
    answer = make_api().get("/ui/0123456789abcdef/app.js", key=None)
    assert "load the page again" in is_problem(answer, 404)["detail"]
