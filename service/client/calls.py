"""Every call of the HTTP contract, JSON as it comes: what the command line is made of."""

from __future__ import annotations

import hashlib
import json
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self
from urllib.parse import quote

import httpx

from latency_tables.agent.connection import by_proxy, open_client
from latency_tables.agent.errors import Refused
from service.client.access import Access
from service.client.errors import ApiProblem, DamagedDownload, JobUnfinished, NoServer
from service.client.jobs import Job, Json

_PATIENCE_S: Final = 60.0  # how long a waiting client puts up with a server that does not answer
_RETRIES: Final = 4


class BespokeClient:
    """Every call of the contract. Not for several threads at once; close it, or use it in a `with`.

    Every method raises ApiProblem when the service refuses and NoServer when it does not answer.
    """

    def __init__(self, url: str, key: str, *, transport: httpx.BaseTransport | None = None) -> None:
        self.url = url.rstrip("/")
        try:
            self._http = open_client(
                self.url,
                headers={"Authorization": f"Bearer {key}", "User-Agent": "bespoke-client"},
                timeout=httpx.Timeout(120.0, connect=5.0),
                transport=transport,
            )
        except Refused as error:
            raise NoServer(f"{self.url}: {error}") from None

    @classmethod
    def from_access(cls, access: Access) -> BespokeClient:
        return cls(access.url, access.key)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._http.close()

    # -- one call ----------------------------------------------------------------------------------

    def call(self, method: str, path: str, **options: Any) -> httpx.Response:
        """One request. Asks again, as told by Retry-After, when the service is busy (429, 503)."""
        for attempt in range(_RETRIES + 1):
            try:
                answer = self._http.request(method, path, **options)
            except httpx.HTTPError as error:
                raise self._no_answer(error) from None
            if answer.status_code not in (429, 503) or attempt == _RETRIES:
                break
            time.sleep(_retry_after_s(answer))
        if answer.is_error:
            raise ApiProblem(_problem(answer), path, options.get("params"))
        return answer

    def _no_answer(self, error: httpx.HTTPError) -> NoServer:
        reason = (
            "it took too long to answer"
            if isinstance(error, httpx.TimeoutException)
            else "nothing answers there"
        )
        reason += by_proxy(self.url)
        return NoServer(
            f"{self.url}: {reason}. Is the service running? Start it with `bespoke serve`, or name another "
            "with --url."
        )

    def _get(self, path: str, **params: Any) -> Json:
        chosen = {k: v for k, v in params.items() if v is not None}
        return _object(self.call("GET", path, params=chosen))

    def _post(self, path: str, body: Mapping[str, Any] | None = None, **headers: str) -> Json:
        content = {} if body is None else {"json": dict(body)}
        return _object(self.call("POST", path, headers=headers, **content))

    def _items(self, path: str, **params: Any) -> Iterator[Json]:
        """Every item of a list, page by page."""
        cursor: Any = None
        while True:
            page = self._get(path, **{**params, **({"after": cursor} if cursor is not None else {})})
            yield from page["items"]
            cursor = page.get("next")
            if cursor is None:
                return

    # -- the service -------------------------------------------------------------------------------

    def ready(self) -> bool:
        """Whether the service answers and reaches its database and files."""
        try:
            return self._http.get("/readyz", timeout=5.0).status_code == 200
        except httpx.HTTPError:
            return False

    def spaces(self) -> list[Json]:
        return list(self._items("/v1/spaces"))

    def operators(self, space: str, resolution: int | None = None) -> list[Json]:
        """What a latency table for this space must hold."""
        return list(self._items(f"/v1/spaces/{_name(space)}/operators", resolution=resolution))

    def datasets(self) -> list[Json]:
        return list(self._items("/v1/datasets"))

    # -- devices and tables ------------------------------------------------------------------------

    def devices(self) -> list[Json]:
        return list(self._items("/v1/devices"))

    def device(self, name: str) -> Json:
        return self._get(f"/v1/devices/{_name(name)}")

    def add_device(self, name: str, context: Mapping[str, Any], description: str = "") -> Json:
        return self._post("/v1/devices", {"name": name, "description": description, "context": dict(context)})

    def describe_device(self, name: str, description: str) -> Json:
        """Change the description. Raises ApiProblem where somebody else changed it in this moment."""
        path = f"/v1/devices/{_name(name)}"
        headers = {"If-Match": self.call("GET", path).headers["ETag"]}
        return _object(self.call("PATCH", path, json={"description": description}, headers=headers))

    def remove_device(self, name: str) -> None:
        self.call("DELETE", f"/v1/devices/{_name(name)}")

    def upload_table(
        self, name: str, data: bytes, media_type: str, add: bool = False, unit: str = "ms"
    ) -> Json:
        """Register a latency profile (`application/json` or `text/csv`): the whole table or nothing.

        add: to the rows of the table in use. unit: what its latencies are given in: ms, us, ns or s.
        """
        params = {**({"mode": "add"} if add else {}), **({"unit": unit} if unit != "ms" else {})}
        path = f"/v1/devices/{_name(name)}/tables"
        return _object(
            self.call("POST", path, content=data, headers={"Content-Type": media_type}, params=params)
        )

    def tables(self, name: str) -> list[Json]:
        """Versions of the device's table, the newest first."""
        return list(self._items(f"/v1/devices/{_name(name)}/tables"))

    def use_table(self, name: str, table_id: str) -> Json:
        """Put a version of the table in use."""
        return self._post(f"/v1/devices/{_name(name)}/tables/{_name(table_id)}/use")

    def accept_table(self, name: str, table_id: str, note: str = "") -> Json:
        """Say that a version which needs a review is true, and put it in use."""
        return self._post(f"/v1/devices/{_name(name)}/tables/{_name(table_id)}/accept", {"note": note})

    def delete_table(self, name: str, table_id: str) -> None:
        self.call("DELETE", f"/v1/devices/{_name(name)}/tables/{_name(table_id)}")

    def table(self, name: str, table_id: str, media_type: str = "application/json") -> bytes:
        path = f"/v1/devices/{_name(name)}/tables/{_name(table_id)}"
        return self.call("GET", path, headers={"Accept": media_type}).content

    def table_cells(self, name: str, table_id: str, space: str, resolution: int | None = None) -> Json:
        """The table as a heat map: what each choice of each block of a space takes."""
        path = f"/v1/devices/{_name(name)}/tables/{_name(table_id)}/cells"
        return self._get(path, space=space, resolution=resolution)

    def export_device(self, name: str) -> bytes:
        """The device with all its tables and measured networks as one file."""
        return self.call("GET", f"/v1/devices/{_name(name)}/bundle").content

    def import_device(self, data: bytes, name: str | None = None) -> Json:
        """Register the device of a file of `export_device`, all of it or nothing, under another name if
        given.
        """
        params = {} if name is None else {"name": name}
        headers = {"Content-Type": "application/json"}
        return _object(self.call("POST", "/v1/devices/import", content=data, headers=headers, params=params))

    def enrol(self, name: str) -> Json:
        """A one-time token for a measuring agent on that device."""
        return self._post(f"/v1/devices/{_name(name)}/enrolments")

    def profile(
        self,
        name: str,
        space: str,
        resolutions: Sequence[int] | None = None,
        networks: int | None = None,
        idempotency_key: str | None = None,
        *,
        dataset: str | None = None,
        generation: Mapping[str, int] | None = None,
        precisions: Sequence[str] | None = None,
        prune: bool = False,
    ) -> Job:
        """Queue the measuring of what the device's table lacks for a space. networks: whole ones, for the
        calibration. dataset: whose outputs are meant. generation: `source_tokens`, `target_tokens`, `beam` of
        the sentence that is timed. precisions: of its blocks. prune: also the widths of pruned blocks.
        """
        body: Json = {"space": space, "resolutions": list(resolutions or ()) or None, "networks": networks}
        body |= {"dataset": dataset, "generation": dict(generation or {}) or None}
        body |= {"precisions": list(precisions or ()) or None, "prune": prune or None}
        return self.profile_as(name, {k: v for k, v in body.items() if v is not None}, idempotency_key)

    def profile_as(self, name: str, body: Mapping[str, Any], idempotency_key: str | None = None) -> Job:
        """The same with the body of `POST /v1/devices/{name}/profiles` as it stands."""
        headers = {} if idempotency_key is None else {"Idempotency-Key": idempotency_key}
        return Job.read(self._post(f"/v1/devices/{_name(name)}/profiles", dict(body), **headers))

    def check(self, name: str) -> Job:
        """Queue the re-measuring of a few operators: does the table still hold?"""
        return Job.read(self._post(f"/v1/devices/{_name(name)}/checks", {}))

    def remeasure(self, name: str, space: str, operators: Sequence[str]) -> Job:
        """Queue the measuring of operators that the table has already."""
        body = {"space": space, "remeasure": list(operators)[:5000], "networks": 0}
        return Job.read(self._post(f"/v1/devices/{_name(name)}/profiles", body))

    def networks(self, name: str) -> list[Json]:
        """Whole networks that were measured on the device, beside what its table predicts."""
        return list(self._items(f"/v1/devices/{_name(name)}/networks"))

    def probes(self, name: str, samples: Sequence[Mapping[str, Any]]) -> Json:
        """Register measured whole networks: `{space, architecture, latency_ms}` each."""
        return self._post(f"/v1/devices/{_name(name)}/probes", {"samples": [dict(s) for s in samples]})

    def transformers(self, name: str, networks: Sequence[Mapping[str, Any]], **options: Any) -> Json:
        """Make a table of whole transformers that HAT's protocol measured: `{features, encoder_ms,
        decoder_ms}` each. options: other fields of `POST /v1/devices/{name}/transformers`."""
        body = {"networks": [dict(n) for n in networks], **options}
        return self._post(f"/v1/devices/{_name(name)}/transformers", body)

    def forget_networks(self, name: str, session: str) -> None:
        """Delete the measured networks of one session or post."""
        self.call("DELETE", f"/v1/devices/{_name(name)}/networks", params={"session": session})

    def probe_plan(self, name: str, space: str, samples: int) -> Json:
        """The whole networks that are worth measuring first on a new device."""
        return self._get(f"/v1/devices/{_name(name)}/probe-plan", space=space, count=samples)

    # -- supernets ---------------------------------------------------------------------------------

    def supernets(self) -> list[Json]:
        return list(self._items("/v1/supernets"))

    def supernet(self, supernet_id: str) -> Json:
        return self._get(f"/v1/supernets/{_name(supernet_id)}")

    def train_supernet(
        self,
        space: str,
        dataset: str,
        recipe: str | None = None,
        seed: int | None = None,
        parent: str | None = None,
        memory_mb: int | None = None,
        distributed: Mapping[str, Any] | None = None,
        *,
        class_weights: str | None = None,
        control: bool | None = None,
    ) -> Job:
        """Train a supernet, or get the job of the one already trained from the same inputs. parent: id of the
        supernet to begin with. memory_mb: most memory of the training process. distributed: how the
        service's training processes share it. class_weights, control: as `POST /v1/supernets` has them."""
        body: Json = {"space": space, "dataset": dataset, "recipe": recipe, "seed": seed, "from": parent}
        body |= {"memory_mb": memory_mb, "distributed": distributed}
        body |= {"class_weights": class_weights, "control": control or None}
        return Job.read(self._post("/v1/supernets", {k: v for k, v in body.items() if v is not None}))

    def front(self, supernet_id: str, device: str, generation: Mapping[str, int] | None = None) -> Json:
        """The whole latency/accuracy front for a device: `{optimal, points: [...]}`. generation: the sentence
        that latencies are of."""
        path = f"/v1/supernets/{_name(supernet_id)}/front"
        return self._get(path, device=device, **(generation or {}))

    def front_columns(self, supernet_id: str, device: str) -> Json:
        """The front in columns: `latency_ms`, `upper_ms`, `accuracy`, `genes` and what these mean."""
        return self._get(f"/v1/supernets/{_name(supernet_id)}/front", device=device, form="columns")

    def front_network(self, supernet_id: str, device: str, genes: str) -> Json:
        """A network of `front_columns` block by block, with its milliseconds in the device's table."""
        return self._get(f"/v1/supernets/{_name(supernet_id)}/network", device=device, genes=genes)

    def history(self, supernet_id: str) -> list[Json]:
        """How a supernet's training went: loss by epoch and phase."""
        return list(self._items(f"/v1/supernets/{_name(supernet_id)}/history"))

    def predictor_pairs(self, supernet_id: str) -> Json:
        """Predicted and measured accuracy of networks that the prediction had not seen."""
        return self._get(f"/v1/supernets/{_name(supernet_id)}/predictor")

    # -- searches, jobs, models --------------------------------------------------------------------

    def search(self, request: Mapping[str, Any], idempotency_key: str | None = None) -> Job:
        """Queue a search job (docs/api.md, `POST /v1/searches`). Sent twice with one key, it is one job."""
        headers = {"Idempotency-Key": idempotency_key or uuid.uuid4().hex}
        return Job.read(_object(self.call("POST", "/v1/searches", json=dict(request), headers=headers)))

    def compress(self, model_id: str, request: Mapping[str, Any], idempotency_key: str | None = None) -> Job:
        """Queue a delivered network once more, with blocks in int8 or after `passes` (`POST
        /v1/models/{model_id}/compress`)."""
        headers = {"Idempotency-Key": idempotency_key or uuid.uuid4().hex}
        path = f"/v1/models/{_name(model_id)}/compress"
        return Job.read(_object(self.call("POST", path, json=dict(request), headers=headers)))

    def jobs(
        self,
        state: str | None = None,
        kind: str | None = None,
        limit: int | None = None,
        **wanted: str | None,
    ) -> Iterator[Job]:
        """Jobs, the newest first. wanted: `device`, `supernet` or `text` to find them by."""
        for count, item in enumerate(self._items("/v1/jobs", state=state, kind=kind, **wanted), 1):
            yield Job.read(item)
            if count == limit:
                return

    def job(self, job_id: str) -> Job:
        return Job.read(self._get(f"/v1/jobs/{_name(job_id)}"))

    def job_request(self, job_id: str) -> Json:
        """What a job was asked for, with its tables pinned."""
        return self._get(f"/v1/jobs/{_name(job_id)}/request")

    def name_job(self, job_id: str, **given: str | None) -> Job:
        """Give a job a `name` and a `note`; None takes one away."""
        return Job.read(_object(self.call("PATCH", f"/v1/jobs/{_name(job_id)}", json=given)))

    def events(self, job_id: str, after: int = 0) -> list[Json]:
        """What happened to a job, in order, from the event after number `after` on."""
        return list(self._items(f"/v1/jobs/{_name(job_id)}/events", **({"after": after} if after else {})))

    def job_log(self, job_id: str, after: int = 0) -> list[Json]:
        """What a job's worker and its child said, step by step; from the line after position `after` on."""
        return list(self._items(f"/v1/jobs/{_name(job_id)}/log", **({"after": after} if after else {})))

    def cancel(self, job_id: str) -> Job:
        return Job.read(self._post(f"/v1/jobs/{_name(job_id)}/cancel"))

    def wait(self, job_id: str, on_change: Callable[[Job], None] | None = None, poll_s: float = 0.5) -> Job:
        """Poll a job until it has ended; a server that is away for less than a minute does not end the wait.

        Raises JobUnfinished where it ends otherwise than `succeeded`.
        """
        answered = time.monotonic()
        while True:
            try:
                job = self.job(job_id)
                answered = time.monotonic()
            except NoServer:
                if time.monotonic() - answered > _PATIENCE_S:
                    raise
                time.sleep(1.0)
                continue
            if on_change is not None:
                on_change(job)
            if job.state == "succeeded":
                return job
            if job.ended:
                raise JobUnfinished(job)
            time.sleep(poll_s)

    def models(self, **wanted: str | None) -> list[Json]:
        """Delivered networks, the newest first. wanted: `device`, `supernet`, `job` or `text` to find them
        by.
        """
        return list(self._items("/v1/models", **wanted))

    def name_model(self, model_id: str, **given: str | None) -> Json:
        """Give a model a `name` and a `note`; None takes one away."""
        return _object(self.call("PATCH", f"/v1/models/{_name(model_id)}", json=given))

    def remove_model(self, model_id: str) -> None:
        self.call("DELETE", f"/v1/models/{_name(model_id)}")

    def model_network(self, model_id: str, device: str | None = None) -> Json:
        """The network block by block, with its milliseconds in the table of its device or of another one."""
        return self._get(f"/v1/models/{_name(model_id)}/network", device=device)

    def model(self, model_id: str) -> Json:
        """The model card."""
        return self._get(f"/v1/models/{_name(model_id)}")

    def download_model(self, model_id: str, target: Path) -> str:
        """Write the ONNX file and return its SHA-256, checked against the model card. Raises
        DamagedDownload.
        """
        promised = self.model(model_id)["file"]["sha256"]
        data = self.call("GET", f"/v1/models/{_name(model_id)}/onnx").content
        digest = hashlib.sha256(data).hexdigest()
        if digest != promised:
            raise DamagedDownload(
                "the file that came is not the one on the model card (SHA-256 differs); download it again"
            )
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = target.with_name(f".{target.name}.part")
        partial.write_bytes(data)
        partial.replace(target)
        return digest

    # -- browsers and what happens -----------------------------------------------------------------

    def login_token(self) -> str:
        """A token that logs a browser in, once and within a minute: `URL/ui/#login=TOKEN`."""
        return str(self._post("/v1/sessions/links")["token"])

    def happenings(self, last_id: str | None = None) -> Iterator[Json]:
        """All that happens in the tenant, as it happens, until the service ends the stream.

        Each has `id` (give the last one to go on from there), `kind` and what the service says of it.
        """
        headers = {"Accept": "text/event-stream", **({} if last_id is None else {"Last-Event-ID": last_id})}
        with self._http.stream("GET", "/v1/events", headers=headers, timeout=httpx.Timeout(30.0)) as answer:
            if answer.is_error:
                answer.read()
                raise ApiProblem(_problem(answer))
            yield from _told(answer.iter_lines())

    # -- keys --------------------------------------------------------------------------------------

    def keys(self) -> list[Json]:
        return list(self._items("/v1/keys"))

    def create_key(self, name: str, scopes: Sequence[str], expires_in_days: int | None = None) -> Json:
        """A new key; the answer is the only place where it is ever shown."""
        body: Json = {"name": name, "scopes": list(scopes)}
        if expires_in_days is not None:
            body["expires_in_days"] = expires_in_days
        return self._post("/v1/keys", body)

    def revoke_key(self, key_id: str) -> None:
        self.call("DELETE", f"/v1/keys/{_name(key_id)}")


def _name(text: str) -> str:
    """A path segment; a name with a slash stays one segment, `.` and `..` never walk."""
    return quote(text, safe="") if text.strip(".") else quote(text, safe="").replace(".", "%2E")


def _told(lines: Iterator[str]) -> Iterator[Json]:
    """The events of a stream; comments keep the line open and say nothing."""
    fields: dict[str, str] = {}
    for line in lines:
        if line.startswith(":"):
            continue
        if line:
            name, _, value = line.partition(": ")
            fields[name] = value
        elif fields:
            yield {
                **json.loads(fields.get("data", "{}")),
                "kind": fields.get("event", ""),
                "id": fields.get("id"),
            }
            fields = {}


def _object(answer: httpx.Response) -> Json:
    try:
        body = answer.json()
    except ValueError:
        body = None
    if not isinstance(body, dict):
        raise NoServer(
            f"{answer.url.copy_with(query=None)} did not answer as bespoke does; is another program "
            "listening there?"
        )
    return body


def _problem(answer: httpx.Response) -> Json:
    """The problem document; one made up from the status where the answer is none (a proxy's page)."""
    try:
        body = answer.json()
    except ValueError:
        body = None
    if isinstance(body, dict) and ("title" in body or "detail" in body):
        return {"status": answer.status_code, **body}
    return {
        "status": answer.status_code,
        "title": f"{answer.status_code} {answer.reason_phrase}",
        "detail": "",
    }


def _retry_after_s(answer: httpx.Response) -> float:
    text = answer.headers.get("Retry-After", "1")
    return min(float(text), 30.0) if text.replace(".", "", 1).isdigit() else 1.0
