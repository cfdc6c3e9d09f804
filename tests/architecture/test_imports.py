"""What may know what, over every module: imports in fresh interpreters, and the import contracts of
pyproject.toml."""

from __future__ import annotations

import importlib.util
import json
import logging
import pkgutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path

import pytest
from importlinter.cli import lint_imports

ROOT = Path(__file__).parents[2]
PYPROJECT = ROOT / "pyproject.toml"
HEAVY = ("torch", "sklearn", "scipy", "matplotlib", "onnxruntime", "onnx", "onnxscript", "pandas")
WEB = ("fastapi", "starlette", "uvicorn", "pydantic", "sqlalchemy", "dbos", "alembic", "typer")
PROBE = """
import importlib, json, sys
for module in {modules}:
    importlib.import_module(module)
{then}
status = open("/proc/self/status").read() if sys.platform == "linux" else "VmRSS: 0 kB"
kib = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS"))
print(json.dumps([sorted(sys.modules), kib]))
"""
RUNS = ("service.db.migrations.env",)  # Alembic runs it; it is no module to import
WITH_TORCH = (  # in `supernets`; docs/architecture.md lists them
    "layers",
    "network",
    "cut_out",
    "training",
    "tasks.images",
    "tasks.sentences",
    "tasks.decoding",
    "delivery.compression.bits",
    "delivery.compression.codebooks",
    "delivery.compression.compressed",
    "delivery.compression.low_rank",
    "delivery.compression.trial",
    "delivery.robustness",
    "delivery.passes",
    "delivery.onnx_passes",
    "delivery.parity",
    "delivery.pipeline",
    "delivery.sentences",
    "delivery.testing",
    "delivery.export",
    "delivery.operator_graphs",
    "delivery.int8_steps",
    "delivery.int8_graphs",
    "delivery.int8_export",
    "delivery.simulated",
    "delivery.quantising",
    "delivery.rounded_scores",
    "delivery.merged_decoder",
    "delivery.pruning",
    "delivery.pruned_scores",
    "delivery.transformer_folder",
    "delivery.transformer_graphs",
    "published_weights",
    "encoder_decoder",
    "sentence_supernet",
    "published_transformers",
    "transformer_files",
    "state_dicts",
    "experiments",
    "search.gradient",
)
LOCAL = (
    "service.local.advising",
    "service.local.cutting",
    "service.local.importing",
    "service.local.reporting",
)  # commands that an operator runs on the machine itself


def modules_of(package: str, but: Sequence[str] = ()) -> list[str]:
    """Every module below a package, found on disk: without importing any."""

    def below(name: str, folder: Path) -> Iterator[str]:
        yield name
        for found in pkgutil.iter_modules([str(folder)]):
            child = f"{name}.{found.name}"
            yield from below(child, folder / found.name) if found.ispkg else (child,)

    place = ROOT / package.replace(".", "/")
    hidden = (*but, *RUNS)
    return [m for m in below(package, place) if not any(m == b or m.startswith(f"{b}.") for b in hidden)]


@cache
def loaded(modules: tuple[str, ...], then: str = "") -> tuple[frozenset[str], float]:
    """(modules that are loaded after these imports, resident MiB), in a fresh interpreter."""
    code = PROBE.format(modules=modules, then=then)
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    found, kib = json.loads(done.stdout)
    return frozenset(found), kib / 1024


def linted(config: Path) -> int:
    """Exit status of import-linter, which silences every logger that there is: those of other tests are
    given their voice back."""
    loud = [
        logger
        for logger in logging.Logger.manager.loggerDict.values()
        if isinstance(logger, logging.Logger) and not logger.disabled
    ]
    try:
        return int(lint_imports(config_filename=str(config), no_cache=True))
    finally:
        for logger in loud:
            logger.disabled = False


def roots(modules: frozenset[str]) -> set[str]:
    return {name.partition(".")[0] for name in modules}


AGENT = modules_of("latency_tables.agent")
TABLES = modules_of("latency_tables")
NO_TORCH = modules_of("supernets", [f"supernets.{name}" for name in WITH_TORCH])
SUPERNETS = modules_of("supernets")
API = modules_of("service", [*LOCAL, "service.cli"])
CLI = modules_of("service.cli")


@pytest.mark.parametrize(
    ("modules", "never"),
    [
        (
            AGENT,
            (
                "service",
                "supernets",
                "worker",
                "yaml",
                "torch",
                "sklearn",
                "scipy",
                "onnx",
                "matplotlib",
                *WEB,
            ),
        ),
        (TABLES, ("service", "supernets", "worker", *HEAVY, *WEB)),
        (NO_TORCH, ("service", "worker", "torch", "onnx", "onnxscript", *WEB)),
        (SUPERNETS, ("service", "worker", *WEB)),
        (API, ("worker", *HEAVY)),
        (CLI, ("worker", *HEAVY)),
    ],
    ids=["agent", "latency_tables", "supernets without torch", "supernets", "service", "command line"],
)
def test_no_module_of_a_room_loads_what_the_room_must_not_know(
    modules: list[str], never: tuple[str, ...]
) -> None:
    found, _ = loaded(tuple(modules))
    assert set(modules) <= found, "every module was imported"
    assert not roots(found) & set(never)


def test_every_module_is_looked_at() -> None:
    """Nothing is left out by a package that the walk misses; the list of modules with torch names only what
    is there."""
    for package, found in (
        ("latency_tables", TABLES),
        ("supernets", SUPERNETS),
        ("service", [*API, *CLI, *LOCAL]),
    ):
        files = {p.relative_to(ROOT).with_suffix("") for p in (ROOT / package).rglob("*.py")}
        wanted = {".".join(f.parts[:-1] if f.name == "__init__" else f.parts) for f in files}
        assert wanted - set(RUNS) == set(found)
    assert all(importlib.util.find_spec(f"supernets.{name}") for name in WITH_TORCH)
    assert len(AGENT) > 8 and len(NO_TORCH) > 20


def test_packages_are_listed_for_installation() -> None:
    listed = set(tomllib.loads(PYPROJECT.read_text())["tool"]["setuptools"]["packages"])
    rooms = ("latency_tables", "supernets", "service", "worker")
    folders = {p.parent.relative_to(ROOT) for room in rooms for p in (ROOT / room).rglob("__init__.py")}
    assert listed == {".".join(folder.parts) for folder in folders}


def test_the_import_contracts_are_kept() -> None:
    """What `make lint` checks, so that `make test` alone finds an import that goes back."""
    assert linted(PYPROJECT) == 0


@pytest.mark.parametrize(
    ("source", "forbidden"),
    [("worker", "service"), ("service.local.importing", "torch"), ("supernets.training", "torch")],
)
def test_a_broken_contract_is_found(tmp_path: Path, source: str, forbidden: str) -> None:
    settings = tomllib.loads(PYPROJECT.read_text())["tool"]["importlinter"]
    config = tmp_path / "contracts.toml"
    config.write_text(
        f"[tool.importlinter]\nroot_packages = {settings['root_packages']}\ninclude_external_packages = "
        "true\n"
        f'[[tool.importlinter.contracts]]\nname = "wrong"\ntype = "forbidden"\n'
        f'source_modules = ["{source}"]\nforbidden_modules = ["{forbidden}"]\n'
    )
    assert linted(config) == 1


@pytest.mark.parametrize("module", ["service.app", "service.http.serving", "service.devices.price_book"])
def test_the_api_loads_nothing_heavy(module: str) -> None:
    modules, resident_mib = loaded((module,))
    assert not modules & set(HEAVY)
    assert resident_mib < 150


def test_the_application_with_its_contract_is_small() -> None:
    then = (
        "from service.app import create_app; from service.settings import Settings; "
        "create_app(Settings()).openapi()"
    )
    modules, resident_mib = loaded(("service.app",), then)
    assert not modules & set(HEAVY)
    assert resident_mib < 150
