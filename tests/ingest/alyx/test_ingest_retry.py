"""Trying again: how long, how often, and that it ends."""

import random
import time
from email.utils import formatdate

import pytest
import requests

from ibl_mtm.ingest import retry as module
from ibl_mtm.ingest.retry import GaveUpError, Patience, Transient, check_status, retry

FIRST_WAIT, LONGEST_WAIT = module._FIRST_WAIT, module._LONGEST_WAIT


def with_own_waits(monkeypatch):
    """Waits as users have them, where other tests wait for nothing."""
    monkeypatch.setattr(module, "_FIRST_WAIT", FIRST_WAIT)
    monkeypatch.setattr(module, "_LONGEST_WAIT", LONGEST_WAIT)


@pytest.fixture
def waits(monkeypatch):
    """The waits between attempts; more than twenty are without end."""
    slept = []

    def sleep(seconds):
        slept.append(seconds)
        assert len(slept) <= 20, "without end"

    with_own_waits(monkeypatch)
    monkeypatch.setattr("time.sleep", sleep)
    return slept


def failing(times: float, **how):
    """An action that fails so often, and then answers."""
    calls = []

    def action():
        calls.append(None)
        if len(calls) <= times:
            raise Transient("busy", **how)
        return "answer"

    return action, calls


def test_what_a_server_asks_for_is_waited_beside_ones_own_wait(waits, monkeypatch):
    monkeypatch.setattr(random, "uniform", lambda low, high: high)
    action, _ = failing(2, wait=7.0)
    assert retry(action, Patience(), "it") == "answer"
    assert waits == [7 + 1, 7 + 2]


@pytest.mark.parametrize("attempts", [1, 4])
def test_attempts_are_counted(waits, attempts):
    action, calls = failing(float("inf"))
    with pytest.raises(GaveUpError, match=rf"it: busy \({attempts} attempts\)"):
        retry(action, Patience(attempts=attempts), "it")
    assert len(calls) == attempts == len(waits) + 1
    action, calls = failing(attempts - 1)
    assert retry(action, Patience(attempts=attempts), "it") == "answer"


def test_a_fault_may_be_no_accident_earlier(waits):
    action, calls = failing(float("inf"), attempts=2)
    with pytest.raises(GaveUpError):
        retry(action, Patience(attempts=6), "it")
    assert len(calls) == 2


def test_faults_of_a_network_are_tried_again(waits):
    calls = []

    def action():
        calls.append(None)
        if len(calls) == 1:
            raise ConnectionResetError
        return "answer"

    assert retry(action, Patience(), "it") == "answer"
    assert len(waits) == 1


class TestWaiting:
    def test_waits_grow_and_vary(self, monkeypatch):
        waits = []
        with_own_waits(monkeypatch)
        monkeypatch.setattr("time.sleep", waits.append)
        with pytest.raises(GaveUpError, match=r"the file: busy \(9 attempts\)"):
            retry(self.busy, Patience(attempts=9), "the file")
        windows = [1, 2, 4, 8, 16, 32, 60, 60]
        assert all(w / 2 <= wait <= w for wait, w in zip(waits, windows, strict=True))
        assert len({round(wait / w, 6) for wait, w in zip(waits, windows, strict=True)}) == 8

    def busy(self, wait: float = 0.0):
        raise Transient("busy", wait)

    @pytest.mark.parametrize(
        ("header", "expected"), [("7", 7), (None, 0), ("soon", 0), ("a date", 3600)]
    )
    def test_what_a_server_asks_for_is_kept_to(self, header, expected):
        if header == "a date":
            header = formatdate(time.time() + expected)
        answer = requests.Response()
        answer.status_code = 429
        answer.headers = {} if header is None else {"Retry-After": header}
        with pytest.raises(Transient) as caught:
            check_status(answer)
        assert caught.value.wait == pytest.approx(expected, abs=2 if expected > 60 else 0)

    def test_but_not_for_ever(self):
        with pytest.raises(GaveUpError, match="to be asked again in 3600 s only"):
            retry(lambda: self.busy(3600.0), Patience(), "the file")

    def test_what_is_no_accident_ends_at_once(self):
        calls = []
        with pytest.raises(ZeroDivisionError):
            retry(lambda: calls.append(1 / 0), Patience(), "the file")
        assert calls == []
