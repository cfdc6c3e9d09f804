"""Settings, read once from the environment (`BESPOKE_…`) into one frozen object and handed down."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class Settings(BaseSettings):
    """Everything an operator can set. `docs/operations.md` explains each; a test keeps the two together."""

    model_config = SettingsConfigDict(env_prefix="BESPOKE_", frozen=True, extra="ignore")

    data_dir: Path = Field(Path("bespoke-data"), description="folder of the database file, artifacts, owner key and work files")
    database_url: str = Field("", description="SQLAlchemy URL; empty: SQLite file bespoke.db in the data folder")
    host: str = Field("127.0.0.1", description="address the API binds")
    port: int = Field(8000, ge=0, le=65535, description="port the API binds; 0 takes a free one")
    datasets: dict[str, Path] = Field(
        default_factory=dict, description='JSON object {"name": "folder or file"} of the operator\'s data sets'
    )
    heartbeat_s: float = Field(10.0, gt=0, description="how often a worker says that it lives")
    dead_after_s: float = Field(60.0, gt=0, description="silence after which a worker is declared dead")
    verify_timeout_s: float = Field(120.0, gt=0, description="how long a search waits for an agent to measure a network")
    log_level: str = Field("info", description="debug, info, warning or error")

    @property
    def resolved_database_url(self) -> str:
        if not self.database_url:
            return f"sqlite:///{(self.data_dir / 'bespoke.db').resolve()}"
        if self.database_url.startswith("postgresql://"):
            return self.database_url.replace("postgresql://", "postgresql+psycopg://", 1)
        return self.database_url
