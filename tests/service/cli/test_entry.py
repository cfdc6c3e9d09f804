"""The console script where only a role's extra is installed."""

from __future__ import annotations

import subprocess
import sys

import pytest

WITHOUT = "import sys\nfor name in {names!r}: sys.modules[name] = None\nsys.argv = ['bespoke', *{arguments!r}]\n"
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


def test_the_agent_needs_nothing_but_its_own_extra() -> None:
    absent = ["typer", "rich", "click", "pydantic", "fastapi", "sqlalchemy", "torch", "onnx", "matplotlib", "scipy"]
    script = "import sys\n"
    done = run(absent, ["agent", "--server", "http://127.0.0.1:9", "--patience-s", "0.1"], script)
    assert "--token" in done.stderr and "is not installed" not in done.stderr
    assert done.returncode == 1


def test_no_command_loads_torch_to_show_its_help() -> None:
    program = (
        "import sys\nfrom service.cli.app import run\n"
        "assert run(['search', '--help']) == 0\n"
        "sys.exit(sum(name in sys.modules for name in ('torch', 'matplotlib', 'sqlalchemy', 'fastapi', 'dbos')))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
