"""What happens in a tenant."""

from __future__ import annotations

from service.schemas.strict import Answer, JsonObject, Time


class HappeningView(Answer):
    """One thing that happened. subject: id, or the device's name. position: null where it is not kept (an
    agent came or went).

    kind: `job` and `progress` (`data.event` says which event), `device`, `table`, `agent`, `model`,
    `supernet`.
    """

    position: int | None
    at: Time
    kind: str
    subject: str
    data: JsonObject


class HappeningList(Answer):
    items: list[HappeningView]
    next: int | None = None
