"""The log of the host: one line an event, for people or as JSON.

Events are logged with their facts apart: ``log.info("view changed", extra={"facts": {...}})``.
"""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime
from typing import Any

__all__ = ["start_logging"]


def start_logging(*, as_json: bool) -> None:
    """Sends events of hashroute at level INFO and above to standard error."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Json() if as_json else _Line())
    log = logging.getLogger("hashroute")
    log.handlers = [handler]
    log.setLevel(logging.INFO)
    log.propagate = False


class _Line(logging.Formatter):
    """``2026-01-01T12:00:00.000Z INFO  ready grpc=127.0.0.1:9000``."""

    def format(self, record: logging.LogRecord) -> str:
        facts = " ".join(f"{name}={_word(value)}" for name, value in _facts(record).items())
        text = f"{_time(record)} {record.levelname:<7} {record.getMessage()}"
        return f"{text} {facts}".rstrip() + self._trace(record)

    def _trace(self, record: logging.LogRecord) -> str:
        return f"\n{self.formatException(record.exc_info)}" if record.exc_info else ""


class _Json(logging.Formatter):
    """One object a line: time, level, event, and the facts."""

    def format(self, record: logging.LogRecord) -> str:
        event: dict[str, Any] = {
            "time": _time(record),
            "level": record.levelname.lower(),
            "event": record.getMessage(),
            **_facts(record),
        }
        if record.exc_info:
            event["trace"] = self.formatException(record.exc_info)
        return json.dumps(event, default=str)


def _facts(record: logging.LogRecord) -> dict[str, object]:
    facts: dict[str, object] = getattr(record, "facts", {})
    return facts


def _time(record: logging.LogRecord) -> str:
    moment = datetime.fromtimestamp(record.created, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _word(value: object) -> str:
    """A value of one printable word as it is, any other in quotes: an event stays one line."""
    text = str(value)
    is_word = text.isprintable() and text and " " not in text and '"' not in text
    return text if is_word else json.dumps(text, ensure_ascii=False)
