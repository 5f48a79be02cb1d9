"""Sessions of a folder, or a bucket, of the files that BrainWideBench publishes."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ibl_mtm.brainsets.layout import BRAINSET, file_of, key_of, recordings_in
from ibl_mtm.brainsets.recording import open_recording
from ibl_mtm.cache.store import session_attrs
from ibl_mtm.cache.tables import list_eids
from ibl_mtm.config.dataset import Dataset
from ibl_mtm.config.sources import BrainsetsSource
from ibl_mtm.errors import SessionError, UserError
from ibl_mtm.ingest.brainsets.bucket import (
    Remote,
    fetch,
    list_recordings,
    missing_bytes,
    open_bucket,
)
from ibl_mtm.ingest.brainsets.load_file import load_file
from ibl_mtm.ingest.outcome import OnBytes
from ibl_mtm.ingest.recording import Recording
from ibl_mtm.ingest.retry import Patience
from ibl_mtm.ingest.sources.source import Search
from ibl_mtm.ingest.targets import expand
from ibl_mtm.one_files.marker import is_simulated

__all__ = ["Files", "RecordingFile", "find"]


@dataclass(frozen=True)
class RecordingFile:
    """The file of one session, which any machine can download and open; it is its own access.

    Parameters
    ----------
    eid
        The session.
    root
        The folder of the files; its variables are those of the machine that opens it.
    source
        What the catalog says.
    remote
        The object of the bucket; None where there is no bucket, or it is not asked.
    """

    eid: str
    root: Path
    source: BrainsetsSource
    remote: Remote | None = None
    notes: tuple[str, ...] = ()

    @property
    def path(self) -> Path:
        """The file."""
        return file_of(expand(self.root), self.source.build, self.source.regime, self.eid)

    @property
    def address(self) -> str:
        """See `Origin`."""
        root = str(self.source.url or self.root)
        return f"{root}/{key_of(self.source.build, self.source.regime, self.eid)}"

    @property
    def simulated(self) -> bool:
        """See `Origin`."""
        return is_simulated(expand(self.root))

    @property
    def targets(self) -> tuple[Path, ...]:
        """See `Origin`."""
        return () if self.remote is None else (expand(self.root),)

    def bytes_missing(self) -> int:
        """See `Origin`."""
        return 0 if self.remote is None else missing_bytes(self.remote, self.path)

    @contextmanager
    def open(self, on_bytes: OnBytes = lambda n: None) -> Iterator["RecordingFile"]:
        """See `Origin`."""
        source = self.source
        if self.remote is not None:
            bucket = open_bucket(source)
            patience = Patience(source.attempts, source.timeout)
            fetch(bucket, self.remote, self.path, patience, on_bytes)
        elif source.url is not None and not self.path.is_file():
            raise SessionError(
                self.eid, f"{self.path} is not on disk; without --offline it is downloaded"
            )
        yield self

    def load(self, eid: str, dataset: Dataset) -> Recording:
        """See `Opened`."""
        return load_file(self.path, eid, dataset)


class Files:
    """Sessions of one build and one regime."""

    left_aside: Mapping[str, str]

    def __init__(
        self, eids: list[str], root: Path, source: BrainsetsSource, remotes: dict[str, Remote]
    ) -> None:
        self.eids = eids
        self.left_aside = {}
        self._root = root
        self._source = source
        self._remotes = remotes

    def origin(self, eid: str) -> RecordingFile:
        """See `Found`."""
        return RecordingFile(eid, self._root, self._source, self._remotes.get(eid))

    def subjects(self, eids: Iterable[str]) -> dict[str, str]:
        """See `Found`; of files that are not here yet it is not known."""
        found = {}
        for eid in eids:
            path = self.origin(eid).path
            if path.is_file():
                with open_recording(path) as recording:
                    found[eid] = recording.subject
        return found


@contextmanager
def find(search: Search) -> Iterator[Files]:
    """Find the recordings of the source's build and regime, in its bucket or on disk."""
    source = search.dataset.source
    assert isinstance(source, BrainsetsSource)
    root = search.folder
    here = expand(root)
    remotes: dict[str, Remote] = {}
    if source.url is not None and not search.offline:
        bucket = open_bucket(source)
        remotes = list_recordings(bucket, source)
        known = list(remotes)
    else:
        known = recordings_in(here, source.build, source.regime)
        if not known:
            raise UserError(_why_none(here, source))
    listed = [eid for eid in search.listed if eid in known]
    lost = [eid for eid in search.listed if eid not in known]
    if lost and search.sessions is None:
        raise UserError(
            f"the catalog lists session {lost[0]}, which is not among the {len(known)} recordings "
            f"of {source.url or here} ({source.build}, {source.regime})"
        )
    eids = search.choose(listed or known)
    _refuse_to_mix(search.cache, set(eids) if search.overwrite else set(), source)
    yield Files(eids, root, source, remotes)


def _why_none(root: Path, source: BrainsetsSource) -> str:
    """Why a folder has no recordings, and where they may be."""
    place = key_of(source.build, source.regime, "EID")
    if source.url is not None:
        return f"nothing of {source.url} is on disk in {root}; without --offline it is downloaded"
    if not root.is_dir():
        return f"no folder '{root}' to ingest from"
    if (root / BRAINSET).is_dir() or root.name == BRAINSET:
        above = root.parent if root.name != BRAINSET else root.parent.parent
        return f"no recording in {root}: the path of the source is too low; {above} would be right"
    return f"no recording in {root}; expected {place}"


def _refuse_to_mix(cache: Path, replaced: set[str], source: BrainsetsSource) -> None:
    """Refuse to put recordings beside those of another version of the brainset."""
    if not cache.is_dir():
        return
    for eid in list_eids(cache):
        if eid in replaced:
            continue
        try:
            version = (session_attrs(cache, eid) or {}).get("brainset", {}).get("derived_version")
        except SessionError:
            continue  # which is told of where its turn comes
        if version not in (None, source.version):
            raise UserError(
                f"{cache} holds recordings of derived_version {version}, and the source asks for "
                f"{source.version}: two versions of the brainset are not to be mixed; give another "
                "cache, or drop these sessions"
            )
