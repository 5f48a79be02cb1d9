"""Where counts are held and how they get to a device, without any."""

import threading
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from training_runs import tiny_settings

from ibl_mtm.training.data import describe, loader, memory
from ibl_mtm.training.data.held import send
from ibl_mtm.training.data.loader import Loader
from ibl_mtm.training.data.sampler import TrialSampler


@pytest.mark.parametrize(
    ("here", "there", "pinned"),
    [("cpu", "cuda", True), ("cuda", "cuda", False), ("cpu", "cpu", False), ("cuda", "cpu", False)],
)
def test_only_what_goes_to_a_gpu_is_pinned_and_not_waited_for(here, there, pinned):
    asked = []

    class Tensor:
        device = SimpleNamespace(type=here)

        def pin_memory(self):
            asked.append("pinned")
            return self

        def to(self, device, **how):
            asked.append((device.type, how))
            return "sent"

    assert send(Tensor(), SimpleNamespace(type=there)) == "sent"
    assert asked == (["pinned", (there, {"non_blocking": True})] if pinned else [(there, {})])


@pytest.fixture
def stores(monkeypatch):
    """Budgets, pools and devices that stores were made with."""
    stores = []
    monkeypatch.setattr(
        loader, "Store", lambda sessions, *given: stores.append(given) or SimpleNamespace()
    )
    monkeypatch.setattr(loader, "available_memory", lambda: 24_000)
    return stores


def loader_of(**changes):
    sessions = [SimpleNamespace(trials_in=lambda split: np.arange({"train": 9, "val": 5}[split]))]
    return Loader(sessions, tiny_settings(**changes))


@pytest.mark.parametrize(
    ("data", "devices", "budget"),
    [
        ({}, 1, 12_000),  # half of what there is
        ({}, 3, 4_000),  # of each process
        ({"memory_gb": 0.25}, 1, 250_000_000),
        ({"memory_gb": 2.0}, 3, 2_000_000_000),
    ],
)
def test_counts_take_half_of_the_memory_unless_told_otherwise(stores, data, devices, budget):
    own = loader_of(data={"pool": 7} | data, trainer={"devices": devices})
    store = own.open_store(torch.device("cpu"))
    assert own.open_store(torch.device("cpu")) is store
    assert stores == [(budget, 7, None)]


@pytest.mark.parametrize(
    ("chosen", "room", "on_device"),
    [("on", False, True), ("on", True, True), ("off", True, False), ("auto", True, True),
     ("auto", False, False)],
)  # fmt: skip
def test_counts_are_held_where_that_is_chosen_or_there_is_room(
    stores, monkeypatch, chosen, room, on_device
):
    monkeypatch.setattr(loader, "_has_room", lambda *given: room)
    device = torch.device("meta")
    loader_of(data={"device_cache": chosen}).open_store(device)
    assert stores[0][2] == (device if on_device else None)


@pytest.mark.parametrize(
    ("n", "sizes"), [(0, []), (1, [1]), (64, [64]), (65, [33, 32]), (200, [50] * 4)]
)
def test_validation_trials_come_in_parts_of_about_one_size(n, sizes):
    parts = loader._cut(np.arange(n))
    assert [len(part) for part in parts] == sizes
    assert [trial for part in parts for trial in part] == list(range(n))


def test_a_loader_that_was_not_used_may_be_closed():
    own = loader_of()
    own.close()
    own.store = SimpleNamespace(close=lambda: setattr(own, "closed", True))
    own.close()
    assert own.closed


@pytest.mark.parametrize("ahead", [1, 2, 5])
def test_sessions_are_read_only_so_far_ahead(monkeypatch, ahead):
    """Of batches that need a session each, with room for all."""
    monkeypatch.setattr(loader, "_LOOK_AHEAD", ahead)
    asked = []
    own = loader_of()
    own.store = SimpleNamespace(
        ask=asked.append, get=lambda key: None, release=lambda key: None, has_room=lambda key: True
    )
    own.sampler = TrialSampler([np.arange(2)] * 20, batch_size=2, seed=0)
    batches = own.training()
    for n in range(1, 4):
        next(batches)
        assert len(asked) == n - 1 + ahead
    assert len(set(asked)) == len(asked)


def test_physical_memory_is_told_in_bytes(monkeypatch):
    """Of a machine with 3 pages of 4 kB; and of Windows, which tells kilobytes."""
    sizes = {"SC_PAGE_SIZE": 4096, "SC_PHYS_PAGES": 3}
    monkeypatch.setattr(memory.os, "sysconf", sizes.__getitem__)
    assert memory._physical_memory() == 12288

    def tell(kilobytes):
        kilobytes._obj.value = 5

    import ctypes

    kernel = SimpleNamespace(GetPhysicallyInstalledSystemMemory=tell)
    monkeypatch.setattr(ctypes, "windll", SimpleNamespace(kernel32=kernel), raising=False)
    monkeypatch.setattr(memory, "sys", SimpleNamespace(platform="win32"))
    assert memory._physical_memory() == 5120


def test_sessions_are_described_in_their_order_and_no_reader_is_left(monkeypatch):
    deals = {"e1": "the deal of e1"}
    monkeypatch.setattr(describe, "open_spikes", lambda cache, eid: f"spikes of {eid}")
    monkeypatch.setattr(describe, "describe_session", lambda *given: given)
    cache = {eid: f"data of {eid}" for eid in ("e2", "e1", "e3")}
    for known in (deals, None):
        found = describe.describe_sessions(cache, "settings", known, ("choice",))
        assert found == [
            (f"data of {eid}", "settings", f"spikes of {eid}", (known or {}).get(eid), ("choice",))
            for eid in cache
        ]
    assert not [t for t in threading.enumerate() if t.name.startswith("describe")]


def test_once_a_session_is_damaged_those_that_wait_are_not_read(monkeypatch):
    begun = []

    def read(cache, eid):
        begun.append(eid)
        if eid == "a":
            raise OSError("damaged")
        threading.Event().wait(0.05)  # as long as it takes to decode one

    monkeypatch.setattr(describe, "READERS", 1)
    monkeypatch.setattr(describe, "open_spikes", read)
    with pytest.raises(OSError, match="damaged"):
        describe.describe_sessions(dict.fromkeys("abcdefghijkl"), None)
    assert begun[0] == "a"
    assert len(begun) < 12


def test_the_order_of_batches_stays_as_runs_of_before_had_it():
    """A resumed run goes on in it: 3 sessions through a pool of 2, in pieces of 2 trials."""
    sampler = TrialSampler([np.arange(n) for n in (4, 3, 5)], 2, seed=7, pool=2)
    for number, expected in enumerate(
        (
            [(0, [1, 3]), (2, [0, 4]), (0, [0, 2]), (2, [1, 3]), (1, [0]), (1, [1, 2]), (2, [2])],
            [(2, [4]), (0, [3, 1]), (0, [2, 0]), (2, [1, 3]), (1, [2, 0]), (2, [2, 0]), (1, [1])],
        )
    ):
        parts = [part for batch in sampler.epoch(number) for part in batch.parts]
        assert [(part.session, part.trials.tolist()) for part in parts] == expected
