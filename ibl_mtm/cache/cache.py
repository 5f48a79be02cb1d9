"""Reading a cache: a mapping from session to lazy dataset, and tables to choose by.

cache = open_cache("cache.zarr")                    # or s3://, gs://, https://
cache.sessions                                      # one row per session
part = cache.where("n_units > 60 and lab == 'cortexlab'")
for eid, ds in part.items():                        # opened when asked for
    ca1 = ds.sel(unit=ds.beryl == "CA1")
"""

import html
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pandas as pd
import xarray as xr

from ibl_mtm.cache.groups import open_group, patiently
from ibl_mtm.cache.location import READS_AT_ONCE, Location, locate
from ibl_mtm.cache.store import read_format
from ibl_mtm.cache.tables import collect_regions, current_sessions, read_table
from ibl_mtm.errors import DAMAGE, SessionError, UserError
from ibl_mtm.sessions.schema import FORMAT
from ibl_mtm.sessions.text import counted

__all__ = ["Cache", "UnknownSessionError", "as_cache", "open_cache"]


class UnknownSessionError(UserError, KeyError):
    """A session was asked for that the cache (or this part of it) does not have."""

    # KeyError shows its message in quotes.
    __str__ = Exception.__str__


def open_cache(path: str | Location, storage_options: dict[str, Any] | None = None) -> "Cache":
    """Open a cache for reading: reads its table, and no session.

    Parameters
    ----------
    path
        The folder that `ibl-mtm ingest --cache` wrote, or a copy of it at a URL: ``s3://``,
        ``gs://``, ``https://``, ``http://``. Credentials come from the environment.
    storage_options
        For URLs, what the environment does not say: ``{"skip_signature": True}`` (a public
        bucket), ``{"endpoint": "http://minio.lab:9000"}`` and all else that obstore's stores take.

    Returns
    -------
    Cache
        The sessions that are in the cache now.

    Raises
    ------
    UserError
        If there is no cache, or one of a newer format, or a server does not answer, or refuses.

    Examples
    --------
    >>> cache = open_cache("cache.zarr")
    >>> len(cache), int(cache.sessions.n_units.sum())
    (2, 24)
    >>> len(cache.where("subject == 'SYN_001'"))
    1
    """
    root = locate(path, storage_options)
    read_format(root)
    return Cache(root, current_sessions(root))


def as_cache(cache: "Cache | str | Location") -> "Cache":
    """A cache that is open, or that is to be opened."""
    return cache if isinstance(cache, Cache) else open_cache(cache)


class Cache(Mapping[str, xr.Dataset]):
    """Sessions of a cache, each opened lazily when it is asked for.

    Parameters
    ----------
    path
        The cache's folder: a `pathlib.Path`, or a `RemotePath`.
    sessions
        The rows of its sessions, indexed by eid, as `current_sessions` gives them.
    """

    # Comparing two mappings would open every session of both.
    __eq__ = object.__eq__
    __hash__ = object.__hash__

    def __init__(self, path: Location, sessions: pd.DataFrame) -> None:
        self.path = path
        self._sessions = sessions

    @property
    def sessions(self) -> pd.DataFrame:
        """One row per session, indexed by eid.

        subject, lab, date, number, dataset, role, probes, n_units, n_good_units (label 1),
        n_trials, n_included, mean_rate (Hz, mean over units), regions ("CA1:20 DG:18", in the
        Allen order).
        """
        return self._sessions.copy()

    @property
    def regions(self) -> pd.DataFrame:
        """One row per region of the whole cache, indexed by acronym: name, order, color."""
        table = read_table(self.path, "regions")
        return collect_regions(self.path, self) if table is None else table

    def open(self, eid: str, chunks: Any = None) -> xr.Dataset:
        """Open a session.

        Parameters
        ----------
        eid
            The session.
        chunks
            As in `xarray.open_zarr`: `{}` gives dask arrays in the chunks of the file; by
            default arrays are lazy without dask.

        Raises
        ------
        UnknownSessionError
            If it is not here.
        SessionError
            If it is damaged; also later, when data are read that are missing or were replaced.
        UserError
            Now or later: if the server of a cache at a URL does not answer, or refuses.
        """
        if eid not in self:
            raise UnknownSessionError(self._explain_unknown(eid))
        try:
            return patiently(lambda folder: open_group(folder, chunks), self.path / eid)
        except DAMAGE as error:
            raise SessionError(eid, f"cannot be opened ({error}); run ibl-mtm check") from error

    @property
    def short_names(self) -> dict[str, str]:
        """The beginning of each session's id that no other one shares, by eid."""
        eids = [str(eid) for eid in self]
        length = 8
        while len({eid[:length] for eid in eids}) < len(eids):
            length += 4
        return {eid: eid[:length] for eid in eids}

    def find(self, name: str) -> list[str]:
        """The sessions that people mean by an eid, the beginning of one, or a subject.

        Raises
        ------
        UnknownSessionError
            If none is meant, or an id's beginning is that of several.
        """
        if name in self:
            return [name]
        begun = [str(eid) for eid in self if len(name) >= 4 and str(eid).startswith(name)]
        if len(begun) == 1:
            return begun
        if begun:
            raise UnknownSessionError(
                f"'{name}' begins the ids of {len(begun)} sessions: {', '.join(begun[:3])}"
            )
        of_subject = self._sessions.index[self._sessions["subject"] == name]
        if not len(of_subject):
            raise UnknownSessionError(self._explain_unknown(name))
        return [str(eid) for eid in of_subject]

    def where(self, expression: str) -> "Cache":
        """The sessions for which an expression over the columns of `sessions` is true.

        Parameters
        ----------
        expression
            As in `pandas.DataFrame.query`: `"n_units > 60 and subject == 'KS014'"`,
            `"regions.str.contains('CA1')"`.

        Raises
        ------
        UserError
            If it cannot be evaluated, or says neither true nor false; names the columns.
        """
        columns = ", ".join(["eid", *self._sessions.columns])
        try:
            chosen = self._sessions.eval(expression, engine="python", local_dict={}, global_dict={})
        # Whatever evaluating raises, the expression is to blame.
        except Exception as error:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise UserError(
                f"cannot evaluate '{expression}': {reason}; the columns are {columns}"
            ) from error
        if not isinstance(chosen, pd.Series) or chosen.dtype != bool:
            raise UserError(
                f"'{expression}' is neither true nor false for a session; "
                f'compare, as in "n_units > 60"; the columns are {columns}'
            )
        return Cache(self.path, self._sessions[chosen])

    def to_datatree(self, chunks: Any = None) -> xr.DataTree:
        """All sessions as one lazy tree, a node for each eid."""
        with ThreadPoolExecutor(READS_AT_ONCE) as pool:
            opened = pool.map(lambda eid: self.open(eid, chunks), self)
            return xr.DataTree.from_dict(dict(zip(self, opened, strict=True)), name=self.path.stem)

    def __getitem__(self, eid: str) -> xr.Dataset:
        return self.open(eid)

    def __contains__(self, eid: object) -> bool:
        return eid in self._sessions.index

    def __iter__(self) -> Iterator[str]:
        return iter(self._sessions.index)

    def __len__(self) -> int:
        return len(self._sessions)

    def __repr__(self) -> str:
        columns = ["subject", "date", "n_units", "n_trials", "regions"]
        table = self._sessions[columns].to_string(max_rows=10, max_colwidth=40)
        return f"{self._headline()}\n{table}" if len(self) else self._headline()

    def _repr_html_(self) -> str:
        return f"<p>{html.escape(self._headline())}</p>{self._sessions.to_html(max_rows=10)}"

    def _headline(self) -> str:
        rows = self._sessions
        n_units, n_trials = (int(rows[name].sum()) for name in ("n_units", "n_trials"))
        return (
            f"<{FORMAT} cache {self.path}> {counted(len(rows), 'session')} of "
            f"{counted(rows['subject'].nunique(), 'subject')}, "
            f"{counted(n_units, 'unit')}, {counted(n_trials, 'trial')}"
        )

    def _explain_unknown(self, eid: object) -> str:
        if not len(self):
            return f"no session '{eid}': {self.path} has none"
        shown = ", ".join(list(self)[:3]) + (", …" if len(self) > 3 else "")
        return f"no session '{eid}' in {self.path}, which has {len(self)}: {shown}"
