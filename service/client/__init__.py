"""The HTTP contract as Python objects, with httpx and pydantic alone.

`Bespoke` is for people and notebooks: typed answers that show themselves. `BespokeClient` is every call,
JSON as it comes. The address and the key are taken from the arguments, else from BESPOKE_URL and
BESPOKE_KEY, else from the data folder of a server on this machine (`server.json` and `owner.key`).
"""

from service.client.access import Access, find_access
from service.client.answers import Card, Device, Front, ModelLine, Supernet
from service.client.calls import BespokeClient
from service.client.errors import (
    ApiProblem,
    ClientError,
    DamagedDownload,
    JobUnfinished,
    NoKey,
    NoServer,
    NotInstalled,
)
from service.client.jobs import ENDED, Job
from service.client.typed import Bespoke

__all__ = [
    "ENDED",
    "Access",
    "ApiProblem",
    "Bespoke",
    "BespokeClient",
    "Card",
    "ClientError",
    "DamagedDownload",
    "Device",
    "Front",
    "Job",
    "JobUnfinished",
    "ModelLine",
    "NoKey",
    "NoServer",
    "NotInstalled",
    "Supernet",
    "find_access",
]
