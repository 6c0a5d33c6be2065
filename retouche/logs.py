"""Logs of every process: lines for people, or JSON (RETOUCHE_LOG_FORMAT), with what they are about."""

import json
import logging
from datetime import UTC, datetime

from retouche.about import current
from retouche.settings import Settings


class Lines(logging.Formatter):
    """`2026-01-01 12:00:00,000 INFO retouche.worker message [job=... shard=3]`"""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 (logging's name)
        said = " ".join(f"{name}={value}" for name, value in current().items() if name != "span")
        return super().formatMessage(record) + (f" [{said}]" if said else "")


class Json(logging.Formatter):
    """One object a line: time, level, logger, message, what it is about, and an exception as `error`."""

    def format(self, record: logging.LogRecord) -> str:
        told = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            **current(),
        }
        if record.exc_info:
            told["error"] = self.formatException(record.exc_info)
        return json.dumps(told)


def configure() -> None:
    """Log from INFO on, as the settings say."""
    handler = logging.StreamHandler()
    handler.setFormatter(Json() if Settings().log_format == "json" else Lines())
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    logging.getLogger("httpx2").setLevel(logging.WARNING)  # or it tells of every call
