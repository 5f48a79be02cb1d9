"""Sessions of an Alyx database, asked for one by one, as its limit of requests suggests."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from ibl_mtm.config.dataset import Dataset
from ibl_mtm.config.sources import AlyxSource
from ibl_mtm.errors import SessionError, UserError
from ibl_mtm.ingest.alyx.client import Alyx, AnswerError, NotFoundError, connect
from ibl_mtm.ingest.alyx.records import ask, keep_record, kept_records, own_folder, read_record
from ibl_mtm.ingest.alyx.remote_session import RemoteSession
from ibl_mtm.ingest.outcome import one_line
from ibl_mtm.ingest.retry import GaveUpError, Patience
from ibl_mtm.ingest.sources.source import Search
from ibl_mtm.ingest.targets import expand

__all__ = ["find"]

# So many sessions in a row that Alyx did not answer for: it does not answer at all.
_SILENCE = 3


@contextmanager
def find(search: Search) -> Iterator["_InAlyx"]:
    """Find those that the catalog lists, else those with the tag; offline those of the folder."""
    source, root, listed = search.dataset.source, search.folder, search.listed
    assert isinstance(source, AlyxSource)
    with ExitStack() as stack:
        alyx = None
        if not search.offline:
            folder = own_folder(expand(root), "alyx")
            if search.dry_run:
                folder = Path(stack.enter_context(TemporaryDirectory()))
            alyx = stack.enter_context(connect(source, folder))
        if not listed:
            listed = kept_records(expand(root)) if alyx is None else _tagged(alyx)
        if not listed:
            raise UserError(f"no session of {source.url} has the tag '{source.tag}'")
        eids = search.choose(listed)
        yield _InAlyx(eids, search.dataset, root, alyx, keep=not search.dry_run)


def _tagged(alyx: Alyx) -> list[str]:
    try:
        return alyx.tagged_sessions()
    except UserError:
        raise
    except Exception as error:
        # Whatever a server may answer; GaveUpError and AnswerError say what it was.
        raise UserError(f"Alyx does not tell which sessions there are: {one_line(error)}") from None


class _InAlyx:
    """Sessions of a database."""

    def __init__(
        self, eids: list[str], dataset: Dataset, root: Path, alyx: Alyx | None, keep: bool
    ) -> None:
        self.eids = eids
        self.left_aside: Mapping[str, str] = {}
        self._dataset = dataset
        self._root = root
        self._alyx = alyx
        self._keep = keep
        self._subjects: dict[str, str] = {}
        self._silences = 0

    def origin(self, eid: str) -> RemoteSession:
        source = self._dataset.source
        assert isinstance(source, AlyxSource)
        here = expand(self._root)
        if self._alyx is None:
            record = read_record(here, eid, self._dataset)
        elif self._silences >= _SILENCE:
            raise SessionError(eid, f"{source.url} did not answer for the sessions before it")
        else:
            try:
                record = ask(self._alyx, eid, self._dataset)
            except GaveUpError as error:
                self._silences += 1
                raise SessionError(eid, str(error)) from error
            except (SessionError, UserError):
                raise
            except (AnswerError, NotFoundError) as error:
                raise SessionError(eid, str(error)) from error
            except Exception as error:
                # Whatever a server may answer is the reason of one session.
                reason = f"{source.url} describes it as no Alyx would ({type(error).__name__}: "
                raise SessionError(eid, f"{reason}{one_line(error)})") from error
            self._silences = 0
            if self._keep:
                keep_record(record, here)
        self._subjects[eid] = record.subject
        patience = Patience(source.attempts, source.timeout)
        return RemoteSession(record, self._root, source.url, patience, self._alyx is None)

    def subjects(self, eids: Iterable[str]) -> dict[str, str]:
        return {eid: self._subjects[eid] for eid in eids}
