"""Sessions of the brain-wide map's bulk release: one download for all of them."""

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from ibl_mtm.brainsets.evaluated import evaluated_among
from ibl_mtm.config.dataset import Dataset
from ibl_mtm.config.sources import BwmSource
from ibl_mtm.errors import SessionError, UserError
from ibl_mtm.ingest.brainsets.bucket import Remote, describe, fetch, missing_bytes, open_bucket
from ibl_mtm.ingest.bulk.archive import find_archive, open_archive
from ibl_mtm.ingest.bulk.load_release import load_release, read_table
from ibl_mtm.ingest.outcome import OnBytes
from ibl_mtm.ingest.recording import Recording
from ibl_mtm.ingest.retry import Patience
from ibl_mtm.ingest.sources.source import Search
from ibl_mtm.ingest.targets import expand

__all__ = ["ARCHIVES", "Release", "ReleasedSession", "find"]

ARCHIVES = {
    "bwm_ephys": ("1.2.0", "6661a59b3397bcc6c0c58295da33c01630ba07e3"),
    "bwm_behavior": ("2.0.0", "1c37dd1c38d46ec80067c8a25772dfe2468a1ce1"),
}
"""Version and SHA-1 of each archive that is downloaded."""


@dataclass(frozen=True)
class ReleasedSession:
    """One session of the archives in a folder; it is its own access to them."""

    eid: str
    root: Path
    address: str
    simulated: bool = False
    notes: tuple[str, ...] = ()
    targets: tuple[Path, ...] = ()

    def bytes_missing(self) -> int:
        """See `Origin`; the archives are there already."""
        return 0

    @contextmanager
    def open(self, on_bytes: OnBytes = lambda n: None) -> Iterator["ReleasedSession"]:
        """See `Origin`."""
        yield self

    def load(self, eid: str, dataset: Dataset) -> Recording:
        """See `Opened`."""
        return load_release(expand(self.root), eid, dataset)


class Release:
    """Sessions of the release."""

    def __init__(
        self, eids: list[str], root: Path, address: str, about: Mapping[str, Mapping[str, str]]
    ) -> None:
        self.eids = eids
        self.left_aside: Mapping[str, str] = about["left_aside"]
        self._subjects = about["subjects"]
        self._root = root
        self._address = address

    def origin(self, eid: str) -> ReleasedSession:
        """See `Found`."""
        return ReleasedSession(eid, self._root, self._address)

    def subjects(self, eids: Iterable[str]) -> dict[str, str]:
        """See `Found`."""
        return {eid: self._subjects[eid] for eid in eids if eid in self._subjects}


@contextmanager
def find(search: Search) -> Iterator[Release]:
    """Find the sessions of the archives, which are downloaded first where they are not here."""
    source = search.dataset.source
    assert isinstance(source, BwmSource)
    root = search.folder
    here = expand(root)
    _fetch(source, here, search)
    with open_archive(here, "bwm_ephys") as archive:
        try:
            table = read_table(archive, "sessions")
        except ValueError as error:
            raise UserError(str(error)) from error
    subjects = dict(zip(table["eid"].astype(str), table["subject"].astype(str), strict=True))
    found = evaluated_among(subjects)
    left_out = {} if source.evaluated_animals == "use" else found
    listed = [eid for eid in (*search.listed, *(search.sessions or ())) if eid in left_out]
    if listed:
        raise UserError(
            f"session {listed[0]} is {left_out[listed[0]]} by BrainWideBench, and so not for "
            "pre-training; leave it out, or set 'evaluated_animals: use' in the source"
        )
    known = [eid for eid in subjects if eid not in left_out]
    lost = [eid for eid in search.listed if eid not in subjects]
    if lost and search.sessions is None:
        raise UserError(f"the catalog lists session {lost[0]}, which the release does not have")
    eids = search.choose(search.listed or known)
    left_aside = {} if search.sessions or search.listed else left_out
    yield Release(eids, root, str(archive.path), {"left_aside": left_aside, "subjects": subjects})


def _fetch(source: BwmSource, root: Path, search: Search) -> None:
    """Download those archives that are not here."""
    wanted = [name for name in ARCHIVES if source.behaviour or name == "bwm_ephys"]
    lacking = [name for name in wanted if find_archive(root, name) is None]
    if not lacking:
        return
    if search.offline or source.url is None:
        raise UserError(
            f"no {' and no '.join(lacking)} in {root}"
            + ("; without --offline it is downloaded" if search.offline else "")
        )
    bucket = open_bucket(source)
    patience = Patience(source.attempts, source.timeout)
    remotes = {
        name: describe(bucket, f"{name}-{ARCHIVES[name][0]}.tar", patience) for name in lacking
    }
    total = sum(missing_bytes(remote, root / remote.key) for remote in remotes.values())
    if search.dry_run:
        names = ", ".join(remote.key for remote in remotes.values())
        raise UserError(
            f"{total / 1e9:.1f} GB are to be downloaded ({names} from {source.url}) before it is "
            "known which sessions there are; without --dry-run they are"
        )
    for name, remote in remotes.items():
        try:
            fetch(
                bucket,
                remote,
                root / remote.key,
                patience,
                lambda n: search.on_bytes(n, total),
                partial(_check_sha1, remote=remote, sha1=ARCHIVES[name][1]),
            )
        except SessionError as error:
            raise UserError(error.reason) from error


def _check_sha1(path: Path, remote: Remote, sha1: str) -> None:
    """Compare an archive, before it has its name, with what was published."""
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha1").hexdigest()
    if found != sha1:
        path.unlink()
        raise UserError(
            f"{remote.key} came with SHA-1 {found}, where {sha1} was published; it was removed, "
            "the same command fetches it anew"
        )
