"""Which files of a session are needed, and which of their versions: what Alyx lists, narrowed down.

    chosen, notes = choose_files(session, tagged, source, event="stimOn_times")
    chosen[0].path                      # 'alf/probe00/pykilosort/spikes.times.npy'

Spikes' times and clusters, not their amplitudes, depths or templates, which are most of the bytes.
"""

import re
import urllib.parse
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import Any

from one.alf.path import get_alf_path, get_session_path, remove_uuid_string

from ibl_mtm.config.sources import AlyxSource
from ibl_mtm.ingest.trials import TRIAL_COLUMNS

__all__ = ["RemoteFile", "choose_files", "listed"]

_MANY = 3  # notes of a kind; more are one
_SORTERS = ("iblsorter", "pykilosort")  # as brainbox prefers them
_TRIALS_TABLE = "_ibl_trials.table.pqt"
_SORTING = re.compile(
    r"spikes\.(times|clusters)\.npy|clusters\.(channels|depths)\.npy|"
    r"clusters\.metrics\.pqt|clusters\.uuids\.csv|"
    r"channels\.(localCoordinates|mlapdv|brainLocationIds_ccf_2017|rawInd|labels)\.npy"
)
_SITES = re.compile(r"electrodeSites\.(localCoordinates|mlapdv|brainLocationIds_ccf_2017)\.npy")
_BEHAVIOUR = re.compile(r"_ibl_wheel\.(position|timestamps)\.npy|(_ibl_)?licks\.times\.npy")
_CAMERA = r"(_ibl_)?{}Camera\.(times|ROIMotionEnergy)\.npy"


@dataclass(frozen=True)
class RemoteFile:
    """A file of a session on a file server.

    Parameters
    ----------
    id
        Of the dataset.
    path
        Within the session, with its revision: alf/probe00/pykilosort/#2024-05-06#/spikes.times.npy.
    url
        Where it is.
    size, md5
        As the database has them; None where it does not.
    borrowed
        Whether it is a map of channels that stands in for one that the release lacks.
    spare
        Whether it is fetched only where another one turns out to be of no use.
    """

    id: str
    path: str
    url: str
    size: int | None
    md5: str | None
    borrowed: bool = False
    spare: bool = False

    @property
    def revision(self) -> str:
        """Name of the revision; empty for files that were never revised."""
        found = re.search(r"/#([^#/]+)#/", self.path)
        return found[1] if found else ""

    @property
    def plain(self) -> str:
        """The path without its revision: the same for every version of a file."""
        return re.sub(r"#[^#/]+#/", "", self.path)

    @property
    def folder(self) -> str:
        """Folder of the plain path."""
        return str(PurePosixPath(self.plain).parent)

    @property
    def name(self) -> str:
        """Name of the file."""
        return PurePosixPath(self.path).name

    @property
    def object(self) -> str:
        """Name of its ALF object, such as channels, of files without a namespace."""
        return self.name.split(".")[0]

    @property
    def optional(self) -> bool:
        """Whether a session can do without: wheel, licks, cameras."""
        return self.probe is None and not self.name.startswith("_ibl_trials.")

    @property
    def probe(self) -> str | None:
        """Name of the probe, of files below alf/PROBE."""
        parts = PurePosixPath(self.plain).parts
        return parts[1] if len(parts) > 2 and parts[1].startswith("probe") else None


def choose_files(
    session: dict[str, Any],
    tagged: set[str] | None,
    source: AlyxSource,
    event: str | None,
    probes: Iterable[str] | None = None,
) -> tuple[list[RemoteFile], list[str]]:
    """Choose the files of one session that ingestion needs.

    Parameters
    ----------
    session
        What Alyx answers to ``/sessions/EID``.
    tagged
        Ids of the session's datasets that carry the source's tag; None: the release is not pinned
        by a tag.
    source
        Where the files are, and the revision that pins them, if any.
    event
        Column of the trials table that trials are aligned to; None: no trials are needed.
    probes
        Names of the probes wanted; None: all.

    Returns
    -------
    The files, and notes on what was not found in the release or was left out.
    """
    notes: list[str] = []
    critical: list[str] = []
    wanted = None if probes is None else set(probes)
    records = session.get("data_dataset_session_related") or []
    files: list[RemoteFile] = []
    default = set()
    for record in records:
        if not record.get("data_url"):
            continue  # in a laboratory only
        file = _remote_file(record, source)
        if record.get("qc") == "CRITICAL":
            if _may_be_needed(file, event) and (wanted is None or file.probe in (None, *wanted)):
                critical.append(file.path)
            continue
        files.append(file)
        if str(record.get("default_revision")) == "True":
            default.add(file.id)
    notes += listed(critical, "left out, as its quality is CRITICAL")
    needed = [file for file in files if _may_be_needed(file, event)]
    pinned = _pin(needed, default, tagged, source, notes)
    chosen = [file for file in pinned if file.probe is None]
    table = {file.folder: file.revision for file in chosen if file.name == _TRIALS_TABLE}
    # Where there is a table, only columns that were revised after it.
    chosen = [
        f
        for f in chosen
        if not _is_column(f, None) or f.folder not in table or f.revision > table[f.folder]
    ]
    chosen = _one_camera(chosen)
    for probe in sorted({file.probe for file in pinned if file.probe is not None}):
        if wanted is None or probe in wanted:
            chosen += _one_sorting([file for file in pinned if file.probe == probe])
    return chosen, notes


def _remote_file(record: dict[str, Any], source: AlyxSource) -> RemoteFile:
    url = record["data_url"]
    # Only the address tells the name of a revision: the record's own field holds its id.
    address = urllib.parse.urlsplit(url, allow_fragments=False)
    place = urllib.parse.unquote(address.path).strip("/")
    plain = remove_uuid_string(PurePosixPath(get_alf_path(place))).as_posix()
    folder = get_session_path(plain).as_posix()
    if source.data_server is not None and not url.startswith(f"{source.data_server}/"):
        url = f"{source.data_server}/{get_alf_path(place)}"
    return RemoteFile(
        id=str(record["id"]),
        path=plain.removeprefix(folder).strip("/"),
        url=url,
        size=None if record.get("file_size") is None else int(record["file_size"]),
        md5=record.get("hash") or None,
    )


def _may_be_needed(file: RemoteFile, event: str | None) -> bool:
    if file.probe is not None:
        name = _SITES if file.folder == f"alf/{file.probe}" else _SORTING
        # Old sortings lie in the probe's own folder.
        return bool(name.fullmatch(file.name) or _SORTING.fullmatch(file.name))
    if not re.fullmatch(r"alf(/task_\w+)?", file.folder):
        return False
    if event is not None and (file.name == _TRIALS_TABLE or _is_column(file, event)):
        return True
    cameras = (_CAMERA.format(side) for side in ("left", "right"))
    return bool(_BEHAVIOUR.fullmatch(file.name) or any(re.fullmatch(c, file.name) for c in cameras))


def _is_column(file: RemoteFile, event: str | None) -> bool:
    """Whether a file is one column of the trials, which sessions without a table have instead."""
    columns = (*TRIAL_COLUMNS, "intervals", "rewardVolume", event)
    return file.name in {f"_ibl_trials.{column}.npy" for column in columns}


def _pin(
    files: list[RemoteFile],
    default: set[str],
    tagged: set[str] | None,
    source: AlyxSource,
    notes: list[str],
) -> list[RemoteFile]:
    """One version of each file."""
    if source.revision is not None:
        limit = source.revision
        return _latest([f for f in files if f.revision <= limit], lambda f: f.revision)
    preferred = _latest(files, lambda f: (f.id in default, f.revision))
    if tagged is None:
        return preferred
    carry = [file for file in files if file.id in tagged]
    released = _latest(carry, lambda f: (f.id in default, f.revision))
    # Of a probe that was sorted for the release every file is, or they would not fit together;
    # but for the maps of its channels, which tags need not cover.
    sorted_for_it = {f.probe for f in released if f.name == "spikes.times.npy"}
    released = [f for f in released if f.probe is None or f.probe in sorted_for_it]
    known = {f.plain for f in released}
    lacking = [f for f in preferred if f.plain not in known]
    maps = _borrow_maps([f for f in lacking if f.probe in sorted_for_it], files, released)
    for probe in sorted({str(f.probe) for f in maps}):
        objects = sorted({f"{f.object}.*" for f in maps if f.probe == probe})
        notes.append(
            f"alf/{probe}: {' and '.join(objects)} not in release {source.tag}; "
            "the default revision is used"
        )
    sorted_at_all = {f.probe for f in files if f.name.startswith("spikes.")} | {None}
    extra = [f for f in lacking if f.probe in sorted_at_all - sorted_for_it]
    what = f"not in release {source.tag}; the default revision is used"
    notes += listed(sorted({f"alf/{f.probe}" if f.probe else f.plain for f in extra}), what)
    return released + maps + extra


_MAPS = ("channels", "electrodeSites")


def _borrow_maps(
    lacking: list[RemoteFile], files: list[RemoteFile], released: list[RemoteFile]
) -> list[RemoteFile]:
    """Maps of channels and sites that a release lacks: the default revision of each.

    Where that is of another size than the one beside the release's spikes, it may be a map of
    other channels: then all maps in that folder are those beside the spikes.
    """
    spikes = {f.folder: f.revision for f in released if f.name == "spikes.times.npy"}
    beside = {f.plain: f for f in files if spikes.get(f.folder) == f.revision}
    found = [f for f in lacking if f.object in _MAPS]
    resized = {f.folder for f in found if f.plain in beside and beside[f.plain].size != f.size}
    chosen = [beside.get(f.plain, f) if f.folder in resized else f for f in found]
    return [replace(f, borrowed=True) for f in chosen]


def listed(files: list[str], what: str) -> list[str]:
    """A note on each file; where there are many, one on all of them."""
    if len(files) <= _MANY:
        return [f"{file}: {what}" for file in files]
    return [f"{files[0]} and {len(files) - 1} more files: {what}"]


def _latest(files: list[RemoteFile], order: Callable[[RemoteFile], Any]) -> list[RemoteFile]:
    """Of the versions of each file, the last one in this order."""
    return list({file.plain: file for file in sorted(files, key=order)}.values())


def _one_camera(files: list[RemoteFile]) -> list[RemoteFile]:
    """Keep the right camera as a spare only where both files of the left one are there."""
    left = [f for f in files if re.fullmatch(_CAMERA.format("left"), f.name)]
    if len(left) < 2:
        return files
    right = re.compile(_CAMERA.format("right"))
    return [replace(f, spare=True) if right.fullmatch(f.name) else f for f in files]


def _one_sorting(files: list[RemoteFile]) -> list[RemoteFile]:
    """Of one probe's files, those of the sorting that brainbox would choose, and the sites."""
    folders = {f.folder for f in files if f.name.startswith("spikes.")}
    if not folders:
        return []

    def order(folder: str) -> tuple[int, int]:
        sorter = PurePosixPath(folder).name
        return (_SORTERS.index(sorter) if sorter in _SORTERS else len(_SORTERS), len(folder))

    chosen = min(folders, key=order)
    return [f for f in files if f.folder == chosen or _SITES.fullmatch(f.name)]
