"""A repository of a Hugging Face hub, by its HTTP protocol: one commit with all files, or none.

The hub is that of HF_ENDPOINT (left out: the public one), the token that of HF_TOKEN. Called by the command
line alone, never by the server. Protocol: `huggingface_hub/_commit_api.py` (create_repo, preupload, LFS
batch, commit).
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
from typing import Any, Final

import httpx

from service.sinks.calls import House
from service.sinks.errors import PushFailed
from service.sinks.files import Release

PUBLIC: Final = "https://huggingface.co"
NAME: Final = "the hub"
_REPOSITORY: Final = re.compile(r"[\w-][\w.-]{0,95}/[\w-][\w.-]{0,95}", re.ASCII)
_LFS: Final = {"Accept": "application/vnd.git-lfs+json", "Content-Type": "application/vnd.git-lfs+json"}


def push(release: Release, place: str, transport: httpx.BaseTransport | None = None) -> str:
    """Commit the files to OWNER/NAME, which is made (private) where it is not there. Raises PushFailed.

    Nothing is seen before the one commit at the end; a repository that this push made is deleted where it
    fails.
    """
    if not _REPOSITORY.fullmatch(place):
        raise PushFailed("a place on a hub is OWNER/NAME: --place my-team/pixel7-12ms")
    token = os.environ.get("HF_TOKEN")
    if not token:
        raise PushFailed("a hub wants a token: put one that may write into HF_TOKEN")
    with House(NAME, os.environ.get("HF_ENDPOINT") or PUBLIC, token, transport) as hub:
        made = _make(hub, place)
        try:
            _commit(hub, place, release, transport)
        except BaseException:
            if made:
                hub.call("DELETE", "/api/repos/delete", json=_naming(place))
            raise
        return f"{hub.url}/{place}"


def _naming(place: str) -> dict[str, str]:
    owner, name = place.split("/")
    return {"type": "model", "organization": owner, "name": name}


def _make(hub: House, place: str) -> bool:
    """Whether the repository had to be made."""
    if hub.call("GET", f"/api/models/{place}", missing_ok=True).status_code != 404:
        return False
    hub.call("POST", "/api/repos/create", json={**_naming(place), "private": True})
    return True


def _commit(hub: House, place: str, release: Release, transport: httpx.BaseTransport | None) -> None:
    files = release.files()
    sample = [
        {"path": name, "size": len(data), "sample": base64.b64encode(data[:512]).decode()}
        for name, data in files.items()
    ]
    told = hub.json("POST", f"/api/models/{place}/preupload/main", json={"files": sample}).get("files") or []
    large = {entry["path"] for entry in told if entry.get("uploadMode") == "lfs"}
    _upload(hub, place, {name: files[name] for name in large}, transport)
    summary = f"{release.card['id']} from bespoke"
    lines: list[dict[str, Any]] = [{"key": "header", "value": {"summary": summary, "description": ""}}]
    for name, data in files.items():
        if name in large:
            value = {
                "path": name,
                "algo": "sha256",
                "oid": hashlib.sha256(data).hexdigest(),
                "size": len(data),
            }
            lines.append({"key": "lfsFile", "value": value})
        else:
            value = {"path": name, "content": base64.b64encode(data).decode(), "encoding": "base64"}
            lines.append({"key": "file", "value": value})
    body = "".join(json.dumps(line) + "\n" for line in lines)
    hub.call(
        "POST",
        f"/api/models/{place}/commit/main",
        content=body.encode(),
        headers={"Content-Type": "application/x-ndjson"},
    )


def _upload(hub: House, place: str, files: dict[str, bytes], transport: httpx.BaseTransport | None) -> None:
    """Put large files where the hub says; those it has already are not sent again."""
    if not files:
        return
    by_oid = {hashlib.sha256(data).hexdigest(): data for data in files.values()}
    objects = [{"oid": oid, "size": len(data)} for oid, data in by_oid.items()]
    asked = {"operation": "upload", "transfers": ["basic"], "hash_algo": "sha256", "objects": objects}
    answer = hub.json("POST", f"/{place}.git/info/lfs/objects/batch", json=asked, headers=_LFS)
    for entry in answer.get("objects") or []:
        if "error" in entry:
            raise PushFailed(f"{NAME} does not take a file: {entry['error'].get('message', '')}")
        actions = entry.get("actions") or {}
        if "upload" in actions:
            _act(actions["upload"], by_oid[entry["oid"]], "PUT", transport)
        if "verify" in actions:
            body = json.dumps({"oid": entry["oid"], "size": len(by_oid[entry["oid"]])}).encode()
            _act(actions["verify"], body, "POST", transport)


def _act(action: dict[str, Any], data: bytes, method: str, transport: httpx.BaseTransport | None) -> None:
    """Follow an LFS action. Its address is signed: our token is not sent along, only what the action says."""
    url = httpx.URL(action["href"])
    with House(f"{NAME}'s storage", f"{url.scheme}://{url.netloc.decode()}", None, transport) as storage:
        kind = {"Content-Type": _LFS["Content-Type"]} if method == "POST" else {}
        storage.call(
            method, url.raw_path.decode(), content=data, headers={**kind, **(action.get("header") or {})}
        )
