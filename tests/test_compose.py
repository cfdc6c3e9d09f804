"""docker-compose.yml and the Dockerfiles, checked without a container engine: what they promise about safety
and health."""

from __future__ import annotations

import functools
import http.server
import os
import re
import shutil
import socketserver
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
import yaml

from service.settings import Settings

ROOT = Path(__file__).parent.parent
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
DOCKERFILES = sorted((ROOT / "docker").glob("*.Dockerfile"))


def test_the_topology_is_api_workers_and_postgresql() -> None:
    assert set(SERVICES) == {"api", "worker", "postgres"}
    assert not {"container_name", "ports"} & SERVICES["worker"].keys(), (
        "a worker that is to be scaled has no fixed name or port"
    )
    for name in ("api", "worker"):
        assert SERVICES[name]["depends_on"]["postgres"]["condition"] == "service_healthy"


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_every_container_is_confined(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["user"] not in ("root", "0", "0:0")
    assert service["cap_drop"] == ["ALL"]
    assert "no-new-privileges:true" in service["security_opt"]
    assert {"cpus", "memory", "pids"} <= service["deploy"]["resources"]["limits"].keys()
    assert "/tmp" in " ".join(service["tmpfs"]), "a read-only root needs a place for temporary files"
    assert {"test", "interval", "timeout"} <= service["healthcheck"].keys()
    assert service["restart"] == "unless-stopped"
    assert "privileged" not in service and "network_mode" not in service


def test_only_the_api_is_published_and_only_on_loopback() -> None:
    assert [name for name in SERVICES if "ports" in SERVICES[name]] == ["api"]
    assert all(port.startswith("127.0.0.1:") for port in SERVICES["api"]["ports"])
    assert COMPOSE["networks"]["inside"]["internal"] is True
    assert SERVICES["worker"]["networks"] == SERVICES["postgres"]["networks"] == ["inside"]


def test_the_password_must_be_chosen_and_stands_nowhere() -> None:
    text = (ROOT / "docker-compose.yml").read_text()
    assert text.count("${POSTGRES_PASSWORD:?") == text.count("POSTGRES_PASSWORD:?") >= 2
    assert not re.search(r"PASSWORD:\s*[A-Za-z0-9]", text)


@pytest.mark.parametrize("name", ["api", "worker"])
def test_every_variable_is_a_setting_and_the_settings_can_be_read(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = {k: str(v) for k, v in SERVICES[name]["environment"].items()}
    known = {f"BESPOKE_{field.upper()}" for field in Settings.model_fields}
    assert set(given) <= known
    for key, value in given.items():
        monkeypatch.setenv(
            key, re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", re.sub(r"\$\{\w+:\?[^}]*\}", "secret", value))
        )
    settings = Settings()
    assert settings.resolved_database_url == "postgresql+psycopg://bespoke:secret@postgres:5432/bespoke"


@pytest.mark.parametrize("name", ["api", "worker"])
def test_files_are_shared_and_survive(name: str) -> None:
    assert SERVICES[name]["volumes"] == ["files:/data"]
    assert "files" in COMPOSE["volumes"]
    assert (ROOT / SERVICES[name]["build"]["dockerfile"]).is_file()


@pytest.mark.parametrize("file", DOCKERFILES, ids=lambda f: f.name)
def test_every_image_ends_as_another_user_than_root_with_pinned_packages(file: Path) -> None:
    last = file.read_text().rsplit("\nFROM ", 1)[-1]
    assert re.findall(r"^USER (\w+)$", last, re.M)[-1] == "bespoke"
    assert re.search(r"^(CMD|ENTRYPOINT) \[", last, re.M), "the exec form: signals reach the process"
    for line in file.read_text().splitlines():
        if "pip install" in line:
            assert "-c constraints.txt" in line
        if line.startswith("COPY ") and "--from" not in line:
            for source in line.split()[1:-1]:
                assert (ROOT / source).exists(), source


def test_each_role_installs_its_own_extra_alone() -> None:
    extras = {f.name.split(".")[0]: re.findall(r"'\.\[(\w+)\]'", f.read_text()) for f in DOCKERFILES}
    assert extras == {"agent": ["agent"], "api": ["service"], "worker": ["worker"]}


def test_the_build_context_holds_all_packages_and_nothing_else() -> None:
    lines = (ROOT / ".dockerignore").read_text().split()
    assert lines[0] == "*"
    assert {
        "!latency_tables",
        "!supernets",
        "!service",
        "!worker",
        "!pyproject.toml",
        "!constraints.txt",
    } <= set(lines)


def docker(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["docker", *arguments],
        check=False,
        capture_output=True,
        text=True,
        env={"POSTGRES_PASSWORD": "x", "PATH": "/usr/bin:/usr/local/bin"},
    )


def test_compose_itself_accepts_the_file() -> None:
    if shutil.which("docker") is None or docker("compose", "version").returncode:
        pytest.skip("no docker compose here; the tests above stand in for it")
    done = docker("compose", "-f", str(ROOT / "docker-compose.yml"), "config", "--quiet")
    assert done.returncode == 0, done.stderr


def test_the_api_is_found_healthy_whatever_proxy_the_engine_sets(tmp_path: Path) -> None:
    program = SERVICES["api"]["healthcheck"]["test"][-1]
    assert program in (ROOT / "docker" / "api.Dockerfile").read_text()
    (tmp_path / "readyz").write_text("ready")
    with socketserver.TCPServer(
        ("127.0.0.1", 0), functools.partial(_Quiet, directory=str(tmp_path))
    ) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        program = program.replace(":8000/", f":{server.server_address[1]}/")
        proxies = dict.fromkeys(("HTTP_PROXY", "http_proxy", "ALL_PROXY"), "http://127.0.0.1:9")
        done = subprocess.run(
            [sys.executable, "-c", program], env={**os.environ, **proxies}, check=False, timeout=60
        )
        server.shutdown()
    assert done.returncode == 0


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        return
