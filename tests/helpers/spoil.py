"""What can be wrong with the files of a session: functions that spoil its folder `alf`.

experiment.copy_session(root, 1, spoil=cut("_ibl_trials.table.pqt"))
"""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

SORTING = "probe00/pykilosort"
TRIALS = "_ibl_trials.table.pqt"
CLUSTER_FILES = ("amps", "channels", "depths", "peakToTrough")

Spoil = Callable[[Path], object]


def cut(name: str) -> Spoil:
    def spoil(alf):
        whole = (alf / name).read_bytes()
        (alf / name).write_bytes(whole[: len(whole) // 2])

    return spoil


def write(name: str, content: bytes) -> Spoil:
    return lambda alf: (alf / name).write_bytes(content)


def remove(*patterns: str) -> Spoil:
    def spoil(alf):
        found = [path for pattern in patterns for path in alf.glob(pattern)]
        assert found
        for path in found:
            path.unlink()

    return spoil


def edit_array(name: str, edit: Callable[[np.ndarray], object]) -> Spoil:
    def spoil(alf):
        array = np.load(alf / name)
        edited = edit(array)
        np.save(alf / name, array if edited is None else edited)

    return spoil


def edit_table(name: str, edit: Callable[[pd.DataFrame], pd.DataFrame]) -> Spoil:
    return lambda alf: edit(pd.read_parquet(alf / name)).to_parquet(alf / name)


def edit_uuids(edit: Callable[[list[str]], list[str]]) -> Spoil:
    def spoil(alf):
        path = alf / SORTING / "clusters.uuids.csv"
        header, *uuids = path.read_text().split("\n")
        path.write_text("\n".join([header, *edit(uuids)]))

    return spoil


def put(index, value) -> Callable[[np.ndarray], None]:
    return lambda array: array.__setitem__(index, value)


def without_units(alf):
    folder = alf / SORTING
    for name in CLUSTER_FILES:
        np.save(folder / f"clusters.{name}.npy", np.load(folder / f"clusters.{name}.npy")[:0])
    edit_uuids(lambda uuids: [])(alf)
    edit_table(f"{SORTING}/clusters.metrics.pqt", lambda table: table[:0])(alf)


def partly_sorted_anew(alf):
    revised = alf / SORTING / "#2024-05-06#"
    revised.mkdir()
    shutil.copy(alf / SORTING / "spikes.times.npy", revised)
    shutil.copy(alf / SORTING / "spikes.clusters.npy", revised)


def sites_of_another_probe(alf):
    for name in ("localCoordinates", "mlapdv", "brainLocationIds_ccf_2017"):
        sites = np.load(alf / SORTING / f"channels.{name}.npy")
        np.save(alf / "probe00" / f"electrodeSites.{name}.npy", np.concatenate([sites, sites[:9]]))
    (alf / SORTING / "channels.rawInd.npy").unlink()


def probe_with_a_longer_name(alf):
    shutil.copytree(alf / "probe00", alf / "probe00a")
    folder = alf / "probe00a" / "pykilosort"
    (folder / "clusters.uuids.csv").unlink()
    for name in ("times", "clusters"):
        np.save(folder / f"spikes.{name}.npy", np.load(folder / f"spikes.{name}.npy")[::2])


def events_missing(alf):
    table = pd.read_parquet(alf / TRIALS)
    table.loc[[3, 7], "stimOn_times"] = np.nan
    table.to_parquet(alf / TRIALS)


def times_in(scale: float, dtype: type = float) -> Spoil:
    """Spike times in another unit than seconds."""
    return edit_array(f"{SORTING}/spikes.times.npy", lambda times: (times * scale).astype(dtype))


def trials_scaled(scale: float) -> Spoil:
    """Trials on another clock than the spikes."""

    def edit(table):
        times = [name for name in table if name.endswith("_times") or name.startswith("interv")]
        return table.assign(**{name: table[name] * scale for name in times})

    return edit_table(TRIALS, edit)


def trials_squeezed_into(seconds: float) -> Spoil:
    """Trials that all begin within so many seconds, in the middle of the recording."""

    def edit(table):
        first = table["stimOn_times"].iloc[0]
        squeeze = seconds / (table["stimOn_times"].iloc[-1] - first)
        return table.assign(stimOn_times=first + (table["stimOn_times"] - first) * squeeze)

    return edit_table(TRIALS, edit)


def metrics_by_index(alf):
    """Metrics with the cluster as the index, in another order."""
    edit_table(
        f"{SORTING}/clusters.metrics.pqt",
        lambda table: table.set_index("cluster_id").sort_values("label", ascending=False),
    )(alf)


def uuids_with_index(alf):
    path = alf / SORTING / "clusters.uuids.csv"
    pd.read_csv(path).to_csv(path)


def raw_channels_negative(alf):
    """The probe has more sites than the sorter had channels, and raw numbers below 0."""
    for name in ("localCoordinates", "mlapdv", "brainLocationIds_ccf_2017"):
        sites = np.load(alf / SORTING / f"channels.{name}.npy")
        np.save(alf / "probe00" / f"electrodeSites.{name}.npy", np.concatenate([sites, sites[:9]]))
    edit_array(f"{SORTING}/channels.rawInd.npy", put(0, -1))(alf)


def few_spikes_in_windows(alf):
    """Spikes before the first trial and after the last, and next to none between."""
    folder = alf / SORTING
    times, clusters = (np.load(folder / f"spikes.{n}.npy") for n in ("times", "clusters"))
    events = pd.read_parquet(alf / TRIALS)["stimOn_times"]
    far = (times < events.min() - 1) | (times > events.max() + 2)
    few = far | (np.arange(len(times)) % 60 == 0)
    # Enough of them that rates can be compared.
    for name, array in (("times", times), ("clusters", clusters)):
        np.save(folder / f"spikes.{name}.npy", array[few])


def newer_choice(alf):
    """One column of the trials, revised after the table."""
    (alf / "#2025-03-01#").mkdir()
    choice = pd.read_parquet(alf / TRIALS)["choice"].to_numpy()
    np.save(alf / "#2025-03-01#" / "_ibl_trials.choice.npy", -choice)
