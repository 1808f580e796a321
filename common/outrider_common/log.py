"""Logging of events: a fixed event name plus fields, as text or as one JSON object a line.

Built on the standard library. Knows nothing of what the events mean.
"""

import json
import logging
import time
from collections.abc import Mapping
from typing import Final, TextIO

from outrider_common.settings.log import LogFormat, LogLevel

OUR_LOGGERS: Final = (
    "outrider",
    "outrider_bench",
    "outrider_common",
    "outrider_models",
    "outrider_edge",
    "outrider_export",
    "outrider_cloud",
)


def event(
    logger: logging.Logger,
    name: str,
    /,
    *,
    level: int = logging.INFO,
    error: BaseException | None = None,
    **fields: object,
) -> None:
    """Log that something happened.

    Args:
        logger: where from, usually `logging.getLogger(__name__)`.
        name: what happened, one fixed word such as `session_opened`; never with values in it.
        level: how severe, such as `logging.WARNING`.
        error: an exception whose traceback belongs to the event.
        fields: the values, with units in their names. `time`, `level`, `logger` and `event` are
            taken: a field of such a name is lost in JSON.
    """
    if logger.isEnabledFor(level):
        logger.log(level, name, exc_info=error, extra={"fields": fields})


def configure(level: LogLevel, log_format: LogFormat, stream: TextIO | None = None) -> None:
    """Send all logging to `stream`, standard error if None; other libraries' only if a warning."""
    handler = logging.StreamHandler(stream)
    handler.setFormatter(_FORMATTERS[log_format]())
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)
    set_level(level)


def set_level(level: LogLevel) -> None:
    """Log our own events from this level on."""
    for name in OUR_LOGGERS:
        logging.getLogger(name).setLevel(level.upper())


class TextFormatter(logging.Formatter):
    """Lines for people: time, level, event, then `field=value`; times are UTC."""

    def format(self, record: logging.LogRecord) -> str:
        """The record as a line, and the traceback below it if there is one."""
        words = [
            _utc(record),
            f"{record.levelname.lower():7}",
            record.getMessage(),
            *(f"{key}={_quoted(value)}" for key, value in _fields(record).items()),
        ]
        line = " ".join(words)
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


class JsonFormatter(logging.Formatter):
    """One JSON object a line: `time` (UTC), `level`, `logger`, `event`, and the fields."""

    def format(self, record: logging.LogRecord) -> str:
        """The record as a line of JSON; a traceback is its field `traceback`."""
        document = {
            **_fields(record),
            "time": _utc(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": record.getMessage(),
        }
        if record.exc_info:
            document["traceback"] = self.formatException(record.exc_info)
        return _dumps(document)


class JournalFormatter(logging.Formatter):
    """Lines for systemd's journal: the level as sd-daemon(3) has it, event, then `field=value`."""

    def format(self, record: logging.LogRecord) -> str:
        """The record as lines, each with its level, for the journal takes each for an entry."""
        fields = (f"{key}={_quoted(value)}" for key, value in _fields(record).items())
        text = " ".join([record.getMessage(), *fields])
        if record.exc_info:
            text += f"\n{self.formatException(record.exc_info)}"
        level = _journal_level(record.levelno)
        return "\n".join(f"<{level}>{line}" for line in text.splitlines())


_FORMATTERS: Final[Mapping[LogFormat, type[logging.Formatter]]] = {
    "text": TextFormatter,
    "json": JsonFormatter,
    "journal": JournalFormatter,
}


def _journal_level(level: int) -> int:
    """Of syslog: 7 debug, 6 information, 4 warning, 3 error."""
    if level >= logging.ERROR:
        return 3
    if level >= logging.WARNING:
        return 4
    return 6 if level >= logging.INFO else 7


def _fields(record: logging.LogRecord) -> Mapping[str, object]:
    """The fields of an event; none for a record that another library logged."""
    fields: Mapping[str, object] = getattr(record, "fields", {})
    return fields


def _dumps(document: Mapping[str, object]) -> str:
    """The document as strict JSON; where JSON has nothing like a value, with text instead."""
    try:
        return json.dumps(document, default=str, allow_nan=False)
    except (TypeError, ValueError):  # NaN and infinity, keys that are no text, circles.
        return json.dumps({key: str(value) for key, value in document.items()})


def _utc(record: logging.LogRecord) -> str:
    seconds = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
    return f"{seconds}.{int(record.msecs):03}Z"


def _quoted(value: object) -> str:
    """A value without line breaks, in quotes if it would otherwise run into the next field."""
    text = str(value)
    return text if text and text.isprintable() and not set(text) & set(' "=') else repr(text)
