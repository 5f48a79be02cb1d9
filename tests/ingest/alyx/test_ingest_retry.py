"""Trying again: how long, how often, and that it ends."""

import random

import pytest

from ibl_mtm.ingest import retry as module
from ibl_mtm.ingest.retry import GaveUpError, Patience, Transient, retry


@pytest.fixture
def waits(monkeypatch):
    """The waits between attempts; more than twenty are without end."""
    slept = []

    def sleep(seconds):
        slept.append(seconds)
        assert len(slept) <= 20, "without end"

    monkeypatch.setattr(module, "_FIRST_WAIT", 1.0)
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
