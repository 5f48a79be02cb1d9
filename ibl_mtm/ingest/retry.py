"""Trying again: waits that grow, with jitter, and an end to them.

    answer = retry(lambda: ask(url), Patience(attempts=6), "https://… the sessions")

What is worth another attempt is raised as `Transient`; anything else ends it at once.
"""

import logging
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import TypeVar

import requests
import urllib3

__all__ = ["GaveUpError", "Patience", "Transient", "check_status", "retry", "transient_faults"]

log = logging.getLogger(__name__)

_FIRST_WAIT = 1.0  # s; doubled at each attempt
_LONGEST_WAIT = 60.0
_LONG = 8.0  # a wait that people are told of
_LONGEST_ASKED = 300.0  # a server that asks for more than this is left alone

_BUSY = (408, 425, 429)
_NEVER = (501, 505)  # of those from 500 on, which are a server's own faults, or a proxy's

transient_faults = (
    requests.ConnectionError,
    requests.Timeout,
    requests.exceptions.ChunkedEncodingError,
    requests.exceptions.ContentDecodingError,
    urllib3.exceptions.HTTPError,
    ConnectionError,
    TimeoutError,
)
"""What a network raises that may be gone the next time."""


class Transient(Exception):  # noqa: N818 - a state of things; GaveUpError is the error
    """Something went wrong that may go well the next time.

    Parameters
    ----------
    reason
        What went wrong, in one line.
    wait
        What the server asks for before the next attempt (s).
    attempts
        After how many of them it is no accident any more; None: as patience has it.
    """

    def __init__(self, reason: str, wait: float = 0.0, attempts: int | None = None) -> None:
        super().__init__(reason)
        self.wait = wait
        self.attempts = attempts


class GaveUpError(Exception):
    """Every attempt failed; its message says how the last one did.

    Parameters
    ----------
    message
        Says so.
    silent
        Whether a server was out of order, and not one of its files.
    """

    def __init__(self, message: str, silent: bool = True) -> None:
        super().__init__(message)
        self.silent = silent
        self.host: str | None = None


@dataclass(frozen=True)
class Patience:
    """How long to go on.

    Parameters
    ----------
    attempts
        Of each request, before it has failed.
    timeout
        How long to wait for an answer, or for the next bytes of one (s).
    """

    attempts: int = 6
    timeout: float = 20.0


T = TypeVar("T")


def retry(action: Callable[[], T], patience: Patience, what: str) -> T:
    """Call until it succeeds.

    Raises
    ------
    GaveUpError
        If it keeps raising `Transient` or one of `transient_faults`.
    """
    attempt = 0
    while True:
        attempt += 1
        try:
            return action()
        except Transient as error:
            fault = error
        except transient_faults as error:
            fault = Transient(_describe(error))
        if attempt >= min(patience.attempts, fault.attempts or patience.attempts):
            raise GaveUpError(
                f"{what}: {fault} ({attempt} attempts)", silent=fault.attempts is None
            ) from fault
        if fault.wait > _LONGEST_ASKED:
            later = f"to be asked again in {fault.wait:.0f} s only"
            raise GaveUpError(f"{what}: {fault}, {later}") from fault
        window = min(_LONGEST_WAIT, _FIRST_WAIT * 2 ** (attempt - 1))
        wait = fault.wait + random.uniform(0.5, 1.0) * window
        level = logging.WARNING if wait > _LONG else logging.INFO
        log.log(level, "%s: %s; again in %.0f s", what, fault, wait)
        time.sleep(wait)


def check_status(response: requests.Response) -> None:
    """Raise `Transient` for an answer of a server that is overloaded or out of order."""
    code = response.status_code
    if code in _BUSY or (500 <= code < 600 and code not in _NEVER):
        reason = f"HTTP {response.status_code} {response.reason or ''}".strip()
        raise Transient(reason, _asked_wait(response.headers.get("Retry-After")))


def _asked_wait(header: str | None) -> float:
    """Seconds that a header Retry-After asks for: a number, or a date."""
    if header is None:
        return 0.0
    try:
        return max(0.0, float(header))
    except ValueError:
        pass
    try:
        return max(0.0, parsedate_to_datetime(header).timestamp() - time.time())
    except ValueError:
        return 0.0


def _describe(error: Exception) -> str:
    """What a network fault is, without the address and the objects that libraries put into it."""
    kinds = {
        (requests.ConnectTimeout, requests.ReadTimeout, TimeoutError): "no answer in time",
        (urllib3.exceptions.TimeoutError,): "no answer in time",
        (requests.exceptions.SSLError,): "no secure connection",
    }
    for kind, text in kinds.items():
        if isinstance(error, kind):
            return text
    if isinstance(error, requests.ConnectionError) and "Read timed out" in str(error):
        return "no answer in time"
    return f"connection failed ({type(error).__name__})"
