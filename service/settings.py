"""Settings, read once from the environment (`BESPOKE_…`) into one frozen object and handed down."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import Field, ValidationError, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from latency_tables.errors import BespokeError
from service.dataset_names import registered

LOOPBACK: Final = ("127.0.0.1", "::1", "localhost")


class Settings(BaseSettings):
    """Everything an operator can set. `docs/operations.md` explains each; a test keeps the two together."""

    model_config = SettingsConfigDict(env_prefix="BESPOKE_", frozen=True, extra="ignore")

    data_dir: Path = Field(
        Path("bespoke-data"), description="folder of the database file, artifacts, owner key and work files"
    )
    database_url: str = Field(
        "", description="SQLAlchemy URL; empty: SQLite file bespoke.db in the data folder"
    )
    host: str = Field("127.0.0.1", description="address the API binds")
    port: int = Field(8000, ge=0, le=65535, description="port the API binds; 0 takes a free one")
    datasets: Annotated[dict[str, Path], NoDecode] = Field(
        default_factory=dict,
        description='JSON object {"name": "folder or file"} of the operator\'s data sets',
    )
    heartbeat_s: float = Field(10.0, gt=0, description="how often a worker says that it lives")
    dead_after_s: float = Field(60.0, gt=0, description="silence after which a worker is declared dead")
    verify_timeout_s: float = Field(
        120.0, gt=0, description="how long a search waits for an agent's next answer"
    )
    step_memory_mb: int = Field(
        0, ge=0, description="address space of a worker's child process in MiB; 0: no limit"
    )
    step_timeout_s: float = Field(21_600.0, gt=0, description="how long a worker's child process may run")
    training_device: Literal["cpu", "cuda"] = Field("cpu", description="where a worker trains: cpu or cuda")
    training_processes: int = Field(
        1, ge=1, le=64, description="processes of one training, one for each GPU on cuda"
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="debug, info, warning or error"
    )

    tls_proxy: bool = Field(
        False, description="a proxy that ends TLS stands before the API; without it only loopback is bound"
    )
    allowed_hosts: tuple[str, ...] = Field(
        (), description="JSON list of host names the API answers to, besides loopback"
    )
    root_path: str = Field(
        "", description="prefix under which a gateway shows the API, such as /nas; empty: none"
    )
    trusted_proxies: str = Field(
        "", description="addresses, separated by commas, whose X-Forwarded-For is believed"
    )
    shutdown_s: float = Field(
        8.0, gt=0, le=60, description="how long open requests may go on once the API was told to end"
    )

    max_body_bytes: int = Field(
        2**20, ge=1024, description="largest request body, tables and agents' posts aside"
    )
    max_table_bytes: int = Field(64 * 2**20, ge=1024, description="largest latency table that can be posted")
    max_agent_post_bytes: int = Field(256 * 2**10, ge=1024, description="largest post of a measuring agent")
    read_deadline_s: float = Field(
        15.0, gt=0, description="time for the headers of a request, and for its body if it is small"
    )
    max_active_jobs: int = Field(200, ge=1, description="queued and running jobs of one tenant")
    max_active_jobs_in_all: int = Field(10_000, ge=1, description="queued and running jobs of all tenants")
    max_concurrent_requests: int = Field(
        64, ge=1, description="requests of one key that may be in work at once"
    )
    max_streams: int = Field(64, ge=1, description="event streams of one tenant that may be open at once")
    max_connections: int = Field(
        512, ge=8, description="connections the API holds; beyond that it answers 503"
    )
    rate_per_s: float = Field(500.0, gt=0, description="requests a second of one key, over a longer time")
    rate_burst: int = Field(1000, ge=1, description="requests of one key that may come at once")
    bad_keys_per_s: float = Field(
        5.0, gt=0, description="wrong keys a second from one address, over a longer time"
    )
    bad_keys_burst: int = Field(20, ge=1, description="wrong keys from one address that may come at once")
    enrolment_ttl_s: float = Field(
        3600.0, gt=0, description="how long a one-time token for an agent can be used"
    )
    agent_session_ttl_s: float = Field(
        86_400.0, gt=0, description="how long an agent may measure before it must enrol again"
    )
    agent_present_s: float = Field(
        30.0, gt=0, description="an agent heard of within this time counts as present"
    )

    @field_validator("datasets", mode="before")
    @classmethod
    def read_datasets(cls, given: object) -> dict[str, Path]:
        """Names that are free and whole paths, `~` expanded. Raises ValueError with a sentence for the
        operator."""
        return registered(given)

    @property
    def resolved_database_url(self) -> str:
        if not self.database_url:
            return f"sqlite:///{(self.data_dir / 'bespoke.db').resolve()}"
        # What operators write and hosts hand out; the driver is our choice.
        if self.database_url.startswith("postgresql://"):
            return self.database_url.replace("postgresql://", "postgresql+psycopg://", 1)
        return self.database_url

    @property
    def loopback(self) -> bool:
        """Whether the API can be reached from this machine alone."""
        return self.host in LOOPBACK


class WrongSettings(BespokeError, ValueError):
    """An environment variable that cannot be what it is set to."""


def read_settings(data_dir: Path) -> Settings:
    """The settings with that data folder, for the command line. Raises WrongSettings."""
    try:
        return Settings(data_dir=data_dir)
    except ValidationError as error:
        raise WrongSettings("; ".join(sentences(error))) from None


def sentences(error: ValidationError) -> list[str]:
    """What is wrong with the settings, a line each, the setting's name first."""
    found = []
    for one in error.errors():
        said = one["msg"].removeprefix("Value error, ")
        name = f"BESPOKE_{'_'.join(map(str, one['loc'])).upper()}"
        found.append(said if said.startswith(name) else f"{name}: {said}")
    return found
