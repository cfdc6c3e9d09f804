"""The service for people and notebooks: typed answers that show themselves."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from service.client import waiting
from service.client.access import find_access
from service.client.answers import Card, Device, Front, HistoryPoint, Many, ModelLine, Supernet
from service.client.calls import BespokeClient
from service.client.jobs import Job


class Bespoke:
    """A service and a key to it. `calls` has every other call of the contract.

    Every method raises ApiProblem when the service refuses and NoServer when it does not answer.
    """

    def __init__(self, calls: BespokeClient) -> None:
        self.calls = calls

    @classmethod
    def connect(
        cls, url: str | None = None, key: str | None = None, data_dir: Path | str | None = None
    ) -> Self:
        """As given, else from BESPOKE_URL and BESPOKE_KEY, else from a server's data folder here. Raises
        NoServer, NoKey.
        """
        folder = None if data_dir is None else Path(data_dir)
        return cls(BespokeClient.from_access(find_access(url, key, folder)))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self.calls.close()

    def devices(self) -> list[Device]:
        """Registered devices, by name."""
        found = [Device.model_validate(raw) for raw in self.calls.devices()]
        return Many(found, ("name", "description", "prediction_error", "table_id"))

    def device(self, name: str) -> Device:
        return Device.model_validate(self.calls.device(name))

    def supernets(self) -> list[Supernet]:
        """Supernets, the newest first."""
        found = [Supernet.model_validate(raw) for raw in self.calls.supernets()]
        return Many(found, ("id", "space", "dataset", "recipe", "state", "created_at"))

    def supernet(self, supernet_id: str) -> Supernet:
        return Supernet.model_validate(self.calls.supernet(supernet_id))

    def history(self, supernet: Supernet | str) -> list[HistoryPoint]:
        """How a training went."""
        found = [HistoryPoint.model_validate(raw) for raw in self.calls.history(_id(supernet))]
        return Many(found, ("phase", "epoch", "epochs", "loss"))

    def front(self, supernet: Supernet | str, device: Device | str) -> Front:
        """All that can be had on a device, every budget at once."""
        name = device if isinstance(device, str) else device.name
        return Front.model_validate(self.calls.front_columns(_id(supernet), name))

    def search(
        self, supernet: Supernet | str, budgets_ms: Mapping[str, float | Mapping[str, float]], **options: Any
    ) -> Job:
        """Queue one job for all devices of `budgets_ms`: name -> ms, or a whole budget such as
        `{"latency_ms": 12, "latency_p95_ms": 16}`. options: other fields of `POST /v1/searches`.
        """
        targets = [
            {"device": name, "budget": dict(given) if isinstance(given, Mapping) else {"latency_ms": given}}
            for name, given in budgets_ms.items()
        ]
        return self.calls.search({"supernet": _id(supernet), "targets": targets, **options})

    def jobs(self, state: str | None = None, kind: str | None = None, limit: int = 20) -> list[Job]:
        """Jobs, the newest first."""
        return list(self.calls.jobs(state, kind, limit))

    def job(self, job: Job | str) -> Job:
        """The job as it is now."""
        return self.calls.job(_id(job))

    def wait(self, job: Job | str, *, cancel: bool = True, poll_s: float = 0.5) -> Job:
        """Follow a job with a bar. An interrupt asks it to stop, unless `cancel` is False. Raises
        JobUnfinished.
        """
        return waiting.wait(self.calls, self.job(job), cancel=cancel, poll_s=poll_s)

    def cancel(self, job: Job | str) -> Job:
        return self.calls.cancel(_id(job))

    def log(self, job: Job | str) -> list[dict[str, Any]]:
        """What a job's programs said, step by step."""
        return self.calls.job_log(_id(job))

    def models(self, **wanted: str | None) -> list[ModelLine]:
        """Delivered networks, the newest first; by `device`, `supernet`, `job` or `text`."""
        found = [ModelLine.model_validate(raw) for raw in self.calls.models(**wanted)]
        return Many(found, ("id", "device", "budget_ms", "predicted_ms", "measured_ms", "accuracy"))

    def card(self, model: ModelLine | str) -> Card:
        return Card.model_validate(self.calls.model(_id(model)))

    def download(self, model: ModelLine | Card | str, target: Path | str) -> str:
        """Write the ONNX file and return its SHA-256, checked against the card. Raises DamagedDownload."""
        return self.calls.download_model(_id(model), Path(target))


def _id(thing: Supernet | Job | ModelLine | Card | str) -> str:
    return thing if isinstance(thing, str) else thing.id
