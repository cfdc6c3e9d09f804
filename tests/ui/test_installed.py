"""The pages behind a proxy under a sub-path, and out of a wheel in a fresh environment."""

from __future__ import annotations

import http.client
import json
import os
import re
import subprocess
import sys
import sysconfig
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from service.http.ui_files import POLICY, ui_files
from tests.ui.conftest import Site, Watched
from tests.ui.test_pages import visit

ROOT = Path(__file__).parents[2]
PREFIX = "/lab/nas"
pytestmark = pytest.mark.browser


@contextmanager
def proxy(upstream: str) -> Iterator[str]:
    """A gateway that shows the service under a prefix, cut off before it passes a request on; its address."""
    target = urlsplit(upstream)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle_any(self) -> None:
            if not self.path.startswith(f"{PREFIX}/"):
                self.send_error(404)
                return
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            headers = {k: v for k, v in self.headers.items() if k.lower() != "connection"}
            # Closed also where the browser leaves in the middle: this test would be blamed on a later one.
            with closing(http.client.HTTPConnection(str(target.hostname), target.port, timeout=60)) as line:
                line.request(self.command, self.path.removeprefix(PREFIX), body or None, headers)
                with line.getresponse() as answer:
                    self.pass_on(answer)

        def pass_on(self, answer: http.client.HTTPResponse) -> None:
            self.send_response(answer.status)
            for name, value in answer.getheaders():
                if name.lower() not in ("transfer-encoding", "connection", "content-length"):
                    self.send_header(name, value)
            self.send_header("Connection", "close")
            self.end_headers()
            self.close_connection = True
            while data := answer.read1(65_536):
                self.wfile.write(data)
                self.wfile.flush()

        do_GET = do_POST = do_PATCH = do_DELETE = handle_any

        def log_message(self, *_: object) -> None:
            pass

    class Quiet(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: object) -> None:
            pass  # a browser that leaves in the middle of a stream

    server = Quiet(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}{PREFIX}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_everything_works_under_a_sub_path_of_a_proxy(site: Site, tab: Callable[..., Watched]) -> None:
    with proxy(site.url) as address:
        behind = Site(address, site.data_dir, site.supernet_id)
        page = tab(behind, log_in=False).page
        page.goto(f"{address}/ui/#login={site.login().split('=')[1]}")
        page.reload()
        page.get_by_role("heading", name="Home").wait_for()
        page.get_by_text("● live").wait_for()
        visit(page, "front?devices=phone,board")
        page.get_by_role("slider").wait_for()
        page.locator(".network li").first.wait_for()
        with site.client() as service:
            service.add_device("behind", service.device("phone")["context"], "")
        visit(page, "devices")
        page.get_by_role("link", name="behind").wait_for()
        with site.client() as service:
            service.remove_device("behind")
        page.get_by_role("link", name="behind").wait_for(state="detached")
        assert page.url.startswith(f"{address}/ui/#/devices")
        page.goto("about:blank")  # the proxy ends before the tab, which would look for it


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout
    for name in listed.decode().split("\0"):
        if name and (ROOT / name).is_file() and not name.startswith(("tests/", "docs/")):
            place = source / name
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes((ROOT / name).read_bytes())
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--quiet", "-w", str(folder), str(source)]
    subprocess.run(command, check=True)
    (made,) = folder.glob("*.whl")
    return made


@pytest.mark.slow
def test_wheel_holds_pages_types_and_man_pages(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {f"service/ui/{name}" for name in ui_files().files} <= names
    assert {"service/py.typed", "service/ui/index.html", "service/client/__init__.py"} <= names
    pages = {name.rpartition("/")[2] for name in names if "share/man/man1/" in name}
    assert pages == {file.name for file in (ROOT / "man").glob("*.1")}
    head = zipfile.ZipFile(wheel).read(next(n for n in names if n.endswith("METADATA"))).decode()
    client = re.findall(r"Requires-Dist: (\w+).*extra == .client", head)
    assert sorted(client) == ["httpx", "pydantic"]


@pytest.mark.slow
def test_wheel_in_a_fresh_environment_serves_every_file(wheel: Path, tmp_path: Path) -> None:
    """Only the libraries are those of this environment: what is ours comes out of the wheel."""
    place = tmp_path / "venv"
    subprocess.run([sys.executable, "-m", "venv", str(place)], check=True)
    python = place / "bin" / "python"
    subprocess.run([str(python), "-m", "pip", "install", "--no-deps", "--quiet", str(wheel)], check=True)
    paths = json.loads(
        subprocess.run(
            [str(python), "-c", "import json, sysconfig; print(json.dumps(sysconfig.get_paths()))"],
            check=True, capture_output=True, text=True,
        ).stdout
    )  # fmt: skip
    Path(paths["purelib"], "libraries.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
    environment = {
        "PATH": os.environ["PATH"],
        "BESPOKE_DATA_DIR": str(tmp_path / "data"),
        "BESPOKE_PORT": "0",
    }
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen([str(python), "-m", "service"], env=environment, stderr=log, cwd=tmp_path)
    try:
        deadline, file = time.monotonic() + 120, tmp_path / "data" / "server.json"
        while not file.exists() and time.monotonic() < deadline and process.poll() is None:
            time.sleep(0.2)
        url = json.loads(file.read_text())["url"]
        while not _ready(url):
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.2)
        digest = ui_files().digest
        shell = httpx.get(f"{url}/ui/", trust_env=False)
        assert (shell.status_code, shell.headers["content-security-policy"]) == (200, POLICY)
        for name, wanted in ui_files().files.items():
            got = httpx.get(f"{url}/ui/{digest}/{name}", trust_env=False)
            assert (got.status_code, got.content) == (200, wanted.data), name
            assert got.headers["content-type"] == wanted.media_type
    finally:
        process.terminate()
        process.wait(30)


def _ready(url: str) -> bool:
    try:
        return httpx.get(f"{url}/readyz", trust_env=False).status_code == 200
    except httpx.HTTPError:
        return False
