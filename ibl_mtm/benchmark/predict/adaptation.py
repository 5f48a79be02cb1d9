"""A recording as a session that the trainings take: the windows of its train and val domains alone.

    ds, regions = adaptation_data(recording, "ts2", TrialFormat(50, 0.02, "contiguous", 0.0))
    adapt(work, recording, "ts2", settings, init)   # a run folder, as `ibl-mtm train` makes it

Spikes outside of these windows are dropped before anything is computed from them: whatever is in
the test domain, the session and the weights that follow from it are the same.
"""

import copy
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
import xarray as xr
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from ibl_mtm.benchmark.tasks import BIN, N_BINS, WINDOW, Suite
from ibl_mtm.brainsets.intervals import inside, intersect
from ibl_mtm.brainsets.recording import Recording, Spikes
from ibl_mtm.cache.cache import open_cache
from ibl_mtm.cache.store import create_cache, write_session
from ibl_mtm.disk.replace import replace_file
from ibl_mtm.errors import SessionError, UserError
from ibl_mtm.ingest.align import count_from_start
from ibl_mtm.model.dynamics.fit import fit_dynamics
from ibl_mtm.model.mtm import MtM
from ibl_mtm.sessions.schema import CONTIGUOUS
from ibl_mtm.sessions.trial_format import TrialFormat
from ibl_mtm.training.run import train
from ibl_mtm.training.settings import RunSettings

__all__ = [
    "WINDOWS",
    "adapt",
    "adaptation_data",
    "bins_before",
    "refit_dynamics",
    "windows_to_adapt",
]

WINDOWS = TrialFormat(N_BINS, BIN, CONTIGUOUS, 0.0)
"""What a model that begins at random is made for: the benchmark's own windows."""

STRIDE = {"train": 0.5, "val": 1.0}
"""From one window to the next (s): training gains from windows that overlap."""


def bins_before(format_: TrialFormat) -> int:
    """Bins before the second that is scored, of a model's windows.

    Raises
    ------
    UserError
        If the model's windows cannot hold those of the benchmark.
    """
    if format_.bin_size != BIN or format_.n_time < N_BINS:
        raise UserError(
            f"the model was trained on {format_.n_time} bins of {format_.bin_size:g} s; the "
            f"benchmark needs {N_BINS} or more of {BIN:g} s: pre-train on such windows"
        )
    return format_.n_time - N_BINS


def windows_to_adapt(
    recording: Recording, suite: Suite, split: str, n_before: int = 0
) -> NDArray[np.float64]:
    """Starts (s) of windows within trials of a domain, wholly within it with what is before."""
    domain = recording.domain(f"{suite}_{split}")
    pieces = intersect(recording.trial_domains, domain)
    starts = np.concatenate(
        [np.empty(0), *(np.arange(a, b - WINDOW + 1e-9, STRIDE[split]) for a, b in pieces)]
    )
    whole = np.stack([starts - n_before * BIN, starts + WINDOW], axis=1)
    return starts[inside(whole, domain)]


def adaptation_data(
    recording: Recording, suite: Suite, format_: TrialFormat = WINDOWS
) -> tuple[xr.Dataset, pd.DataFrame]:
    """The session, in the format of a cache, and its regions' table.

    Parameters
    ----------
    recording
        Of the build that the suite is defined on.
    suite
        Whose domains: TS3 takes those of TS2, whose units are the same.
    format_
        Of the model's windows; the benchmark's second comes last in them.

    Raises
    ------
    SessionError
        If a domain holds no whole window.
    """
    n_before, domains = bins_before(format_), "ts2" if suite == "ts3" else suite
    starts, split = [], []
    for name in ("train", "val"):
        found = windows_to_adapt(recording, domains, name, n_before)
        if not len(found):
            raise recording.wrong(f"no whole window of a trial in {domains}_{name}_domain")
        starts.append(found)
        split += [name] * len(found)
    start = np.concatenate(starts)
    order = np.argsort(start, kind="stable")
    start, split_ = start[order], np.array(split)[order]
    spikes = _within(recording.spikes(), start, n_before)
    window_start, n_units = start - n_before * BIN, len(recording.unit_ids)
    counts = count_from_start(
        spikes.times, spikes.units, n_units, window_start, BIN, format_.n_time
    )
    first = format_.start
    variables = {"spikes": (("trial", "time", "unit"), counts), "split": ("trial", split_)}
    coordinates: dict[str, Any] = {
        "trial": ("trial", np.arange(len(start))),
        "time": ("time", first + np.arange(format_.n_time) * BIN),
        "window_start": ("trial", window_start),
    }
    attributes = {
        "eid": recording.eid,
        "subject": recording.subject,
        "lab": recording.lab,
        "date": recording.date,
        "number": 1,
        "dataset": f"BrainWideBench {domains}",
        "role": "finetune",
        "alignment": CONTIGUOUS,
        "window": [first, first + format_.n_time * BIN],
        "bin_size": BIN,
        "brainset": {
            "derived_version": recording.version,
            "build": recording.build,
            "regime": recording.regime,
        },
    } | _definition(recording, domains, format_)
    units = _units(recording.units, counts)
    ds = xr.Dataset(variables | units, coords=coordinates, attrs=attributes)
    acronyms = {str(a) for name in ("region", "beryl", "cosmos") for a in ds[name].values}
    # Of names and colours, which need the atlas, nothing here makes use.
    names = sorted(acronyms)
    table = {"acronym": names, "name": names, "order": range(len(names)), "color": "#808080"}
    return ds, pd.DataFrame(table)


def adapt(
    work: Path,
    recording: Recording,
    suite: Suite,
    settings: RunSettings,
    init: str | Path | None = None,
    format_: TrialFormat = WINDOWS,
    say: Callable[[str], None] = lambda message: None,
) -> Path:
    """Train a model on a recording; what an interrupted training did is gone on with.

    Returns
    -------
    The run folder, below `work`.
    """
    cache, run = work / "cache.zarr", work / "run"
    create_cache(cache)
    write_session(cache, *adaptation_data(recording, suite, format_))
    train(
        settings,
        open_cache(str(cache)),
        run,
        init=init,
        resume=(run / "checkpoints" / "last.ckpt").is_file(),
        overwrite=True,
        progress=False,
        refit=False,
        say=say,
    )
    return run


@torch.no_grad()
def refit_dynamics(recording: Recording, keep: Path, model: MtM) -> MtM:
    """A copy of an adapted model, its linear dynamics fitted anew to the train and val domains.

    For TS2, once val has chosen their share: baselines that choose nothing have both as well. No
    seed changes them, so that what one has fitted is kept for the next.

    Parameters
    ----------
    recording, model
        What was adapted to what.
    keep
        The file of what was fitted; made if it is not there.

    Raises
    ------
    SessionError
        If no system fits, or the file is damaged: other recordings go on.
    """
    last = copy.deepcopy(model)
    if keep.is_file():
        try:
            last.load_state_dict(load_file(keep), strict=False)
        except (SafetensorError, RuntimeError):
            reason = f"{keep} is damaged; delete it, it is made anew"
            raise SessionError(recording.eid, reason) from None
        return last
    ds, _ = adaptation_data(recording, "ts2", model.scope.trial_format)
    counts, times = (torch.from_numpy(ds[name].values) for name in ("spikes", "window_start"))
    settings = model.settings
    try:
        found = fit_dynamics(counts, settings.dynamics, times=times if settings.drift else None)
    except ArithmeticError as error:
        raise recording.wrong(
            f"no linear dynamics fit it ({error}); adapt without them: model.dynamics=0"
        ) from None
    session = model.scope.sessions.index(recording.eid)
    last.start_dynamics(model.scope.rows_of(recording.unit_ids), session, found)
    tables = {k: v for k, v in last.state_dict().items() if k.startswith("dynamics_")}
    del tables["dynamics_share"]
    keep.parent.mkdir(parents=True, exist_ok=True)
    replace_file(keep, lambda aside: save_file(tables, aside))
    return last


def _within(spikes: Spikes, start: NDArray[np.float64], n_before: int) -> Spikes:
    """Spikes of these windows alone."""
    first = np.searchsorted(spikes.times, start - n_before * BIN)
    last = np.searchsorted(spikes.times, start + WINDOW)
    mark = np.zeros(len(spikes.times) + 1, np.int64)
    np.add.at(mark, first, 1)
    np.add.at(mark, last, -1)
    keep = np.cumsum(mark)[:-1] > 0
    return Spikes(spikes.times[keep], spikes.units[keep])


def _definition(recording: Recording, domains: str, format_: TrialFormat) -> dict[str, str]:
    text = json.dumps(
        {
            "brainset": recording.version,
            "build": recording.build,
            "domains": domains,
            "n_time": format_.n_time,
            "start": format_.start,
            "stride": STRIDE,
        },
        sort_keys=True,
    )
    digest = hashlib.sha256(text.encode()).hexdigest()[:16]
    return {"definition": text, "definition_hash": digest}


def _units(table: pd.DataFrame, counts: np.ndarray) -> dict[str, Any]:
    n = len(table)

    def text(name: str, other: str) -> np.ndarray:
        return table[name].to_numpy(str) if name in table else np.full(n, other)

    def number(name: str, kind: type, other: float) -> np.ndarray:
        return table[name].to_numpy(kind) if name in table else np.full(n, other, kind)

    seconds = counts.shape[0] * counts.shape[1] * BIN
    values = {
        "unit": text("id", ""),
        "region": text("region_allen", "unknown"),
        "beryl": text("region_beryl", "unknown"),
        "cosmos": text("region_cosmos", "unknown"),
        "pid": text("probe_id", ""),
        "probe": text("probe_id", "probe"),
        "cluster_id": number("cluster_id", np.int64, 0),
        "channel": number("channels", np.int64, -1),
        "depth": number("depths", np.float32, np.nan),
        **{name: number(name, np.float32, np.nan) for name in ("x", "y", "z", "label")},
        "firing_rate": (counts.sum((0, 1), dtype=np.int64) / seconds).astype(np.float32),
    }
    return {name: ("unit", array) for name, array in values.items()}
