"""Datasets of the loopback server, and how their caches are compared."""

from pathlib import Path

import xarray as xr
from alyx_server import TAG, USER, AlyxServer

from ibl_mtm.config.dataset import Dataset, SessionEntry
from ibl_mtm.config.sources import AlyxSource
from ibl_mtm.ingest.outcome import Outcome
from ibl_mtm.ingest.run import ingest


def alyx(server: AlyxServer, path: Path | None = None, **settings) -> AlyxSource:
    values = {"tag": TAG, "timeout": 2.0, "attempts": 3} | settings
    return AlyxSource(kind="alyx", url=server.url, username=USER, path=path, **values)


def single(server: AlyxServer, experiment, index: int = 0, **settings) -> Dataset:
    """One session of the server: the first has one probe."""
    entry = SessionEntry(eid=experiment.eids[index])
    return Dataset(source=alyx(server, **settings), sessions=(entry,))


def outcome_of(dataset: Dataset, cache: Path) -> Outcome:
    """What became of the only session of a dataset."""
    (outcome,) = ingest(dataset, "x", cache).sessions.values()
    return outcome


WHAT = ("eid", "subject", "lab", "date", "number", "pids", "probes", "spike_sorters", "revisions")


def assert_same(cache: Path, other: Path, eids, notes: bool = True) -> None:
    """Every array, and every attribute that says what was recorded."""
    noted = ("notes",) if notes else ()
    for eid in eids:
        with xr.open_zarr(cache / eid) as mine, xr.open_zarr(other / eid) as expected:
            # Quality of insertions is in the database alone.
            arrays = [ds.load().drop_vars("probe_qc", errors="ignore") for ds in (mine, expected)]
            xr.testing.assert_equal(*arrays)
            for name in (*WHAT, "window", "bin_size", *noted, "trials_outside_recording"):
                assert mine.attrs[name] == expected.attrs[name], name
