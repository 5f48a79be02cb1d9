"""Logs of all libraries: on standard error, in one format, and without anything secret.

    configure(logging.DEBUG)        # once in each process, workers too
    hide(password)                  # from now on nobody's log shows it

A secret is taken out of a record when it is made, so that no handler gets to see it, whoever's it
is and whichever level it has.
"""

import logging
import re
import sys
import traceback
from types import TracebackType
from typing import Any, TextIO

__all__ = ["configure", "hide", "level", "redact"]

_HIDDEN = "(hidden)"
_PATTERNS = (
    re.compile(r"(?i)(authorization\W{1,6}(?:token|basic|bearer)\s+)[^\s'\",}]+"),
    re.compile(r"(?i)((?:password|token)['\"]?\s*[:=]\s*['\"]?)[^\s'\",}&]{8,}"),
    re.compile(r"(://[^/\s:@]*:)[^/\s@]+(?=@)"),
)
_secrets: set[str] = set()


class _StandardError(logging.StreamHandler[TextIO]):
    """Writes to whatever standard error is at the time."""

    def __init__(self) -> None:
        logging.Handler.__init__(self)

    @property
    def stream(self) -> TextIO:  # type: ignore[override]
        return sys.stderr


_handler: _StandardError | None = None


def configure(threshold: int = logging.WARNING) -> None:
    """Send the logs of all libraries to standard error, from this level on.

    Parameters
    ----------
    threshold
        Of the records that are shown; `logging.DEBUG` shows all.
    """
    global _handler
    root = logging.getLogger()
    if _handler is not None:
        root.removeHandler(_handler)
    _handler = _StandardError()
    # Some libraries ask for more than the root does: what is shown is decided here.
    _handler.setLevel(threshold)
    _handler.setFormatter(logging.Formatter("%(levelname)s %(name)s: %(message)s"))
    root.addHandler(_handler)
    root.setLevel(threshold)
    sys.excepthook = _show_exception
    _watch_records()


def level() -> int | None:
    """The level that `configure` was called with in this process; None where it was not."""
    return None if _handler is None else _handler.level


def hide(secret: str) -> None:
    """Never show this text in a log again, nor in a traceback."""
    if secret:
        _secrets.add(secret)
    _watch_records()


def redact(text: str) -> str:
    """The text without what is known to be secret, or looks like it."""
    for secret in _secrets:
        # As a word of its own: the password that the IBL publishes is a part of its address.
        text = re.sub(rf"(?<!\w){re.escape(secret)}(?!\w)", _HIDDEN, text)
    for pattern in _PATTERNS:
        text = pattern.sub(rf"\g<1>{_HIDDEN}", text)
    return text


def _watch_records() -> None:
    """Make every record of every logger pass by here before a handler gets it."""
    make = logging.getLogRecordFactory()
    if getattr(make, "is_ibl_mtm", False):
        return

    def make_clean(*args: Any, **kwargs: Any) -> logging.LogRecord:
        record = make(*args, **kwargs)
        _take_over(record.name)
        try:
            message = record.getMessage()
        except (TypeError, ValueError):  # whose arguments do not fit its text
            message = f"{record.msg} {record.args}"
        record.msg, record.args = redact(message), ()
        if record.exc_info and record.exc_info[0] is not None:
            record.exc_text = redact("".join(traceback.format_exception(*record.exc_info)).rstrip())
        return record

    make_clean.is_ibl_mtm = True  # type: ignore[attr-defined]
    logging.setLogRecordFactory(make_clean)


def _take_over(name: str) -> None:
    """Take away the handlers that a library put on standard output or standard error itself.

    Just before they would be called, since libraries may add them at any time. Without effect in
    a program that did not call `configure`: its logs are its own.
    """
    if _handler is None:
        return
    streams = (sys.stdout, sys.__stdout__, sys.stderr, sys.__stderr__)
    logger: logging.Logger | None = logging.getLogger(name)
    while logger is not None:
        for handler in list(logger.handlers):
            if handler is _handler or not isinstance(handler, logging.StreamHandler):
                continue
            if handler.stream in streams:
                logger.removeHandler(handler)
                logger.propagate = True
        logger = logger.parent


def _show_exception(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    sys.stderr.write(redact("".join(traceback.format_exception(kind, error, trace))))
