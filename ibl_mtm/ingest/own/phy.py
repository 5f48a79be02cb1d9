"""Sessions sorted by Kilosort and looked through in Phy: spikes in samples, words for quality.

    places = find_phy_folders(root, dataset)
    recording = read_phy(places.found[eid], dataset)

Nothing in a folder is executed: of ``params.py`` plain values are read, and nothing else.
"""

import ast
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ibl_mtm.config.dataset import Dataset
from ibl_mtm.config.sources import PhySource
from ibl_mtm.errors import SessionError, UserError
from ibl_mtm.ingest.own.files import read_array, read_signals, read_table
from ibl_mtm.ingest.own.places import Place, Places, about_of, gather, make_about
from ibl_mtm.ingest.own.quality import without_noise
from ibl_mtm.ingest.own.recordings import make_recording
from ibl_mtm.ingest.recording import Recording

__all__ = ["find_phy_folders", "read_params", "read_phy"]

_SPIKES = "spike_times.npy"
_DATE = re.compile(r"(.+_)?\d{4}-\d{2}-\d{2}(_\d+)?")
_COLUMNS = {"ch": "channel", "depth": "depth", "region": "region", "brain_area": "region"}
"""Columns of cluster_info.tsv, or of files of their own, that are kept, and what the cache calls
them."""


def find_phy_folders(root: Path, dataset: Dataset) -> Places:
    """Sessions with folders of Phy, each a probe.

    A session is the nearest folder above that has a table of trials, or is named by a date; else
    all that is in `root`.

    Raises
    ------
    UserError
        If there is no folder of Phy.
    """
    source = dataset.source
    assert isinstance(source, PhySource)
    if not root.is_dir():
        raise UserError(f"no folder '{root}' to ingest from")
    probes = sorted(path.parent for path in root.rglob(_SPIKES))
    if not probes:
        raise UserError(f"no folder of Phy in {root}: {_SPIKES} is in none")
    sessions = sorted({_session_of(probe, root, source.trials) for probe in probes})
    abouts = {folder: about_of(folder, source.lab) for folder in sessions}
    if len(sessions) == 1 and source.subject and source.date:
        abouts = {sessions[0]: make_about(source.subject, source.date, source.lab)}
    return gather(
        abouts,
        "nobody tells its subject and date: put it into SUBJECT/YYYY-MM-DD, or give 'subject' and "
        "'date' in the source",
    )


def _session_of(probe: Path, root: Path, trials: str) -> Path:
    for folder in (probe, *probe.parents):
        numbered = folder.name.isdigit() and _DATE.fullmatch(folder.parent.name)
        if (folder / trials).is_file() or _DATE.fullmatch(folder.name) or numbered:
            return folder
        if folder == root:
            break
    return root


def read_phy(place: Place, dataset: Dataset) -> Recording:
    """Load a session's probes, trials and traces.

    Raises
    ------
    SessionError
        If a file is missing or cannot be trusted; names it.
    """
    source, eid = dataset.source, place.about.eid
    assert isinstance(source, PhySource)
    notes: list[str] = []
    probes = {}
    for folder in sorted(path.parent for path in place.path.rglob(_SPIKES)):
        inner = folder.relative_to(place.path).as_posix()
        name = "probe00" if inner == "." else inner.replace("/", ".")
        probes[name] = _read_probe(eid, name, folder, source.sampling_rate, notes)
    event, table = dataset.align.event, place.path / source.trials
    return make_recording(
        place.about,
        probes,
        None if event is None else read_table(eid, table),
        read_signals(eid, place.path, dataset.signals, notes),
        str(table),
        event,
        notes,
    )


def _read_probe(
    eid: str, name: str, folder: Path, rate: float | None, notes: list[str]
) -> dict[str, Any]:
    params = read_params(eid, folder)
    own = params.get("sample_rate")
    if rate is None:
        if not isinstance(own, int | float) or not own > 0:
            raise SessionError(
                eid, f"{folder}/params.py: tells no sample_rate; give 'sampling_rate' in the source"
            )
        rate = float(own)
    elif isinstance(own, int | float) and own != rate:
        notes.append(f"probe {name}: sampling_rate {rate:g}, though params.py has {own:g}")
    samples = read_array(eid, folder / _SPIKES)
    if samples.ndim != 1 or samples.dtype.kind not in "iuf":
        raise SessionError(eid, f"{folder}/{_SPIKES}: expected one number per spike")
    if samples.dtype.kind == "f" and not (samples == np.round(samples)).all():
        raise SessionError(eid, f"{folder}/{_SPIKES}: no whole samples; are these seconds?")
    file = folder / "spike_clusters.npy"
    if not file.is_file():  # before anybody looked through them
        notes.append(f"probe {name}: no spike_clusters.npy; clusters are Kilosort's templates")
        file = folder / "spike_templates.npy"
    clusters = read_array(eid, file)
    times = samples.astype(np.float64) / rate
    if len(samples) != len(clusters):
        raise SessionError(eid, f"{folder}: {len(samples)} times but {len(clusters)} clusters")
    units = _read_units(eid, name, folder, clusters, notes)
    return without_noise(f"probe {name}", times, clusters, units, notes)


def _read_units(
    eid: str, name: str, folder: Path, clusters: np.ndarray, notes: list[str]
) -> pd.DataFrame:
    """Clusters that have spikes, by Phy's ids, with what its tables tell of them."""
    units = pd.DataFrame({"cluster_id": np.unique(clusters)})
    label = pd.Series(index=units["cluster_id"], dtype=object)
    table = _read_info(eid, folder / "cluster_info.tsv")
    for file, column in (
        ("cluster_info.tsv", "group"),
        ("cluster_group.tsv", "group"),
        ("cluster_groups.csv", "group"),
        ("cluster_KSLabel.tsv", "KSLabel"),
    ):
        words = _read_info(eid, folder / file, sep="\t")
        if words is not None and column in words:
            # Who looked at a cluster knows better than Kilosort; who did not has left it empty.
            known = words[column].where(words[column] != "unsorted")
            label = label.where(label.notna(), known.reindex(label.index))
    if label.isna().all():
        notes.append(f"probe {name}: no cluster_group.tsv or cluster_info.tsv; label is NaN")
    units["label"] = label.to_numpy()
    for theirs, ours in _COLUMNS.items():
        own = table
        if own is None or theirs not in own:
            own = _read_info(eid, folder / f"cluster_{theirs}.tsv")
        if own is not None and theirs in own and ours not in units:
            units[ours] = own[theirs].reindex(units["cluster_id"]).to_numpy()
    return units


def _read_info(eid: str, path: Path, sep: str = "\t") -> pd.DataFrame | None:
    """A table of Phy's by cluster; tabs part its columns, whatever its name says."""
    if not path.is_file():
        return None
    try:
        table = pd.read_csv(path, sep=sep)
    except (OSError, ValueError) as error:
        raise SessionError(eid, f"{path}: cannot be read ({error})") from error
    key = next((name for name in ("cluster_id", "id") if name in table), None)
    if key is None:
        raise SessionError(eid, f"{path}: no column cluster_id")
    if table[key].duplicated().any():
        raise SessionError(eid, f"{path}: a cluster stands there twice")
    return table.set_index(key)


def read_params(eid: str, folder: Path) -> dict[str, Any]:
    """Plain values of ``params.py``: numbers, texts, lists of them; what is computed is left out.

    Raises
    ------
    SessionError
        If the file is no Python.
    """
    path = folder / "params.py"
    if not path.is_file():
        return {}
    try:
        tree = ast.parse(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, SyntaxError) as error:
        raise SessionError(eid, f"{path}: cannot be read ({error})") from error
    values: dict[str, Any] = {}
    for node in tree.body:
        if not isinstance(node, ast.Assign):
            continue
        try:
            value = ast.literal_eval(node.value)
        except (ValueError, TypeError, MemoryError, RecursionError):
            continue  # of paths and calls nothing is needed
        values |= {target.id: value for target in node.targets if isinstance(target, ast.Name)}
    return values
