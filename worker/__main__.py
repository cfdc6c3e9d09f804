"""`python -m worker`: one worker process, set by the same `BESPOKE_…` variables as the service."""

from __future__ import annotations

import json
import logging
import os
import sys
from datetime import UTC, datetime

from pydantic import ValidationError

from service.posix import what_is_missing
from service.settings import Settings, sentences

_OWN = set(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class JsonLines(logging.Formatter):
    """One JSON object per line; `extra` values become its keys."""

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "at": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": record.getMessage(),
            **{key: value for key, value in vars(record).items() if key not in _OWN},
        }
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


def main() -> None:
    missing = what_is_missing()
    if missing is not None:
        sys.exit(f"bespoke: {missing}")
    os.umask(0o077)
    try:
        settings = Settings()
    except ValidationError as error:
        sys.exit("\n".join(f"bespoke: {line}" for line in sentences(error)))
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines())
    logging.basicConfig(level=settings.log_level.upper(), handlers=[handler])
    for chatty in ("dbos", "alembic"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    from worker.engine import Engine  # noqa: PLC0415 - wrong settings are reported before anything is loaded

    Engine(settings).run()


if __name__ == "__main__":
    main()
