"""Requests to predict for the benchmark, of files that nobody opens."""

from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from ibl_mtm.benchmark.predict.requests import Request

__all__ = ["EID", "data_of", "request_of"]

EID = "0" * 8


def data_of(*eids: str) -> Any:
    """Files that are opened as their own names."""

    @contextmanager
    def opened(suite: Any, eid: str, regime: str = "eval") -> Any:
        yield SimpleNamespace(eid=eid, build="b", version="v", subject=None)

    return SimpleNamespace(
        recordings=list(eids), root=Path("root"), open=opened, choose=lambda names: list(eids)
    )


def request_of(out: Path, *eids: str, **more: Any) -> Request:
    return Request(data_of(*eids), out, "l", [43, 44], **more)
