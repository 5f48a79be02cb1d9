"""What a server of tests can do instead of answering.

    server.fail("/sessions/", status(503), times=2)
    server.fail("/public/", drip)

A fault gets the request's handler, and what would make the answer.
"""

import time
from collections.abc import Callable
from typing import Any

STALL = 30.0
"""Seconds of saying nothing."""

Reply = tuple[int, dict[str, str], bytes]
"""Status, headers and body."""
Fault = Callable[[Any, Callable[[], Reply]], None]


def status(code: int, **headers: str) -> Fault:
    """Answer with an error; headers as in Retry_After="1"."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return lambda handler, reply: handler.send((code, named, b'{"detail": "out of order"}'))


def stall(handler, reply) -> None:
    """Say nothing."""
    time.sleep(STALL)
    handler.close_connection = True


def stall_midway(handler, reply) -> None:
    """Send half, then nothing."""
    code, headers, body = reply()
    handler.send((code, headers, body), end=len(body) // 2)
    time.sleep(STALL)
    handler.close_connection = True


def drip(handler, reply) -> None:
    """Send byte by byte: never silent for long, and never done."""
    code, headers, body = reply()
    handler.send((code, headers, body), end=0)
    for position in range(int(STALL / 0.05)):
        handler.wfile.write(body[position : position + 1])
        time.sleep(0.05)


def drop(handler, reply) -> None:
    """Close the connection without a word."""
    handler.close_connection = True


def cut(handler, reply) -> None:
    """Promise the whole, send half, and close."""
    code, headers, body = reply()
    handler.send((code, headers, body), end=len(body) // 2)
    handler.close_connection = True


def html(handler, reply) -> None:
    """What a proxy answers."""
    handler.send((200, {"Content-Type": "text/html"}, b"<html>maintenance</html>"))


def truncated(handler, reply) -> None:
    """A file that is shorter on the server than the database has it."""
    code, headers, body = reply()
    handler.send((code, headers, body[: len(body) // 2]))


def altered(handler, reply) -> None:
    """Flip bits in the middle."""
    code, headers, body = reply()
    middle = len(body) // 2
    handler.send((code, headers, body[:middle] + bytes([body[middle] ^ 8]) + body[middle + 1 :]))
