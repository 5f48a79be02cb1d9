"""The catalog of datasets: where each comes from, how it is aligned, binned and split.

catalog = load_catalog()                     # data_catalog.yaml, from here upwards
demo = catalog.dataset("demo")
demo.align.event, demo.align.bin             # ('stimOn_times', 0.02)
"""

import difflib
import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from ibl_mtm.config.yaml_settings import Settings, find_shipped, read_settings, shipped
from ibl_mtm.errors import UserError

__all__ = [
    "Align",
    "AlyxSource",
    "Catalog",
    "Dataset",
    "LocalSource",
    "SessionEntry",
    "SimulatedSource",
    "Split",
    "TrialRules",
    "load_catalog",
]

_CATALOG = "data_catalog.yaml"
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


class SimulatedSource(Settings):
    """A simulated repeated-site experiment, made when first ingested."""

    kind: Literal["simulated"] = "simulated"
    sessions: int = Field(default=4, ge=1)
    units: int = Field(default=80, ge=10, le=50_000)
    trials: int = Field(default=240, ge=1)
    seed: int = Field(default=0, ge=0)
    scale: Literal["small", "full"] = "small"
    path: Path | None = Field(
        default=None, description="where its files are kept; beside the cache if absent"
    )

    @model_validator(mode="before")
    @classmethod
    def _default_to_full_size(cls, values: Any) -> Any:
        if isinstance(values, Mapping) and values.get("scale") == "full":
            return {"units": 900, "trials": 600, **values}
        return values


class LocalSource(Settings):
    """A folder in ONE's layout, with or without its cache tables."""

    kind: Literal["local"]
    path: Path


class AlyxSource(Settings):
    """An Alyx database and the file server behind it, read through ONE.

    Files are those that carry `tag`, in the last revision up to `revision` where that is given;
    without either, the database's default revision. Sessions that no list names are those with
    an insertion that carries the tag. A session of which nothing carries it is refused, unless
    `untagged` says otherwise.
    """

    kind: Literal["alyx"]
    url: str
    data_server: str | None = Field(
        default=None, description="where the files are; by default where the database says"
    )
    username: str = Field(min_length=1)
    password_env: str = Field(
        default="IBL_MTM_PASSWORD", description="environment variable that holds the password"
    )
    tag: str | None = Field(default=None, min_length=1)
    revision: str | None = Field(default=None, min_length=1)
    untagged: Literal["refuse", "default"] = Field(
        default="refuse",
        description="what to do with a listed session of which nothing carries the tag: refuse it, "
        "or take its default revision",
    )
    leave_out: tuple[Literal["CRITICAL", "FAIL", "WARNING", "NOT_SET", "PASS"], ...] = Field(
        default=(),
        description="insertions of these qualities in Alyx are left out; all are kept by default, "
        "and `probe_qc` of each unit tells",
    )
    path: Path | None = Field(
        default=None,
        description="download folder; beside the cache if absent. One that begins with '$NAME' is "
        "found by each worker in its own environment",
    )
    timeout: float = Field(default=20.0, gt=0, description="s without an answer or a byte")
    attempts: int = Field(default=6, ge=1, description="of each request, before it has failed")

    @field_validator("revision", mode="before")
    @classmethod
    def _from_date(cls, revision: Any) -> Any:
        return revision.isoformat() if isinstance(revision, date) else revision  # as YAML reads it

    @field_validator("url", "data_server")
    @classmethod
    def _is_address(cls, address: str | None) -> str | None:
        if address is not None and re.match(r"[^/]*//[^/]*@", address):
            # Whatever it is, it is not shown.
            raise ValueError(
                "no user and password inside of an address: give 'username', and 'password_env' "
                "as the environment variable with the password"
            )
        if address is not None and not re.match(r"https?://[^/]", address):
            raise ValueError(f"'{address}' is no address (https://…)")
        return address and address.rstrip("/")


class Align(Settings):
    """How a session is cut into windows and bins: around an event, or into contiguous windows.

    Either `event` (a column of the trials table) and `window` (s, relative to the event), or
    `contiguous` (length in s of consecutive windows, which need no trials).
    """

    event: str | None = None
    window: tuple[float, float] | None = None
    contiguous: float | None = Field(default=None, gt=0)
    bin: float = Field(default=0.02, gt=0)

    @model_validator(mode="before")
    @classmethod
    def _default_event(cls, values: Any) -> Any:
        if isinstance(values, Mapping) and values.get("contiguous") is None:
            return {"event": "stimOn_times", "window": (-0.5, 1.5), **values}
        return values

    @model_validator(mode="after")
    def _whole_bins(self) -> "Align":
        if self.contiguous is not None and (self.event is not None or self.window is not None):
            raise ValueError("give either 'contiguous' or 'event' and 'window', not both")
        if self.contiguous is None and (self.event is None or self.window is None):
            raise ValueError("give 'event' and 'window', or 'contiguous'")
        if self.length <= 0:
            raise ValueError(f"window {list(self.window or ())} ends before it starts")
        if abs(self.n_bins * self.bin - self.length) > 1e-9 * self.length or self.n_bins < 1:
            raise ValueError(
                f"a window of {self.length:g} s is no multiple of the bin, {self.bin} s"
            )
        return self

    @property
    def start(self) -> float:
        """Start of the window relative to the event (s); 0 for contiguous windows."""
        return 0.0 if self.window is None else self.window[0]

    @property
    def length(self) -> float:
        """Length of the window (s)."""
        if self.contiguous is not None:
            return self.contiguous
        assert self.window is not None
        return self.window[1] - self.window[0]

    @property
    def n_bins(self) -> int:
        """Number of bins in a window."""
        return round(self.length / self.bin)


class TrialRules(Settings):
    """Which trials are marked `included`, for behaviour decoding (all limits in s, inclusive)."""

    min_reaction: float = Field(
        default=0.08, ge=0, description="first movement after stimulus onset"
    )
    max_reaction: float = Field(default=2.0, gt=0)
    max_length: float = Field(default=10.0, gt=0, description="go cue to feedback")


class Split(Settings):
    """How a session's trials are dealt out to train, val and test."""

    fractions: tuple[float, float, float] = (0.7, 0.1, 0.2)
    kind: Literal["random", "blocks"] = "random"
    seed: int = Field(default=42, ge=0)

    @field_validator("fractions")
    @classmethod
    def _sum_to_one(cls, fractions: tuple[float, ...]) -> tuple[float, ...]:
        if min(fractions) <= 0 or abs(sum(fractions) - 1) > 1e-9:
            raise ValueError(
                f"train, val and test must be positive and sum to 1: {list(fractions)}"
            )
        return fractions


class SessionEntry(Settings):
    """One session of a dataset; `pids` chooses among its insertions."""

    eid: str
    pids: tuple[str, ...] | None = Field(default=None, min_length=1)
    role: Literal["pretrain", "finetune"] = "pretrain"

    @field_validator("eid", mode="after")
    @classmethod
    def _is_uuid(cls, eid: str) -> str:
        if not _UUID.fullmatch(eid):
            raise ValueError(f"'{eid}' is no session id (a UUID in lower case)")
        return eid


class Dataset(Settings):
    """One dataset of the catalog."""

    source: Annotated[SimulatedSource | LocalSource | AlyxSource, Field(discriminator="kind")]
    sessions: tuple[SessionEntry, ...] | None = Field(default=None, min_length=1)
    align: Align = Align()
    trials: TrialRules = TrialRules()
    split: Split = Split()

    @field_validator("sessions")
    @classmethod
    def _no_session_twice(
        cls, sessions: tuple[SessionEntry, ...] | None
    ) -> tuple[SessionEntry, ...] | None:
        eids = [entry.eid for entry in sessions or ()]
        twice = {eid for eid in eids if eids.count(eid) > 1}
        if twice:
            raise ValueError(f"session {min(twice)} stands here twice")
        return sessions

    @model_validator(mode="after")
    def _names_sessions(self) -> "Dataset":
        if isinstance(self.source, AlyxSource) and not self.source.tag and not self.sessions:
            raise ValueError("give the source a 'tag', or list the sessions")
        return self

    def entry(self, eid: str) -> SessionEntry:
        """What the catalog says about one session; the defaults where it lists none."""
        return next((e for e in self.sessions or () if e.eid == eid), SessionEntry(eid=eid))

    def definition(self, eid: str) -> dict[str, Any]:
        """All that decides what the cache holds of a session, as a plain JSON mapping.

        Left out is what does not: where the files lie, and which other sessions there are.
        """
        elsewhere = {
            *("path", "sessions"),
            *("data_server", "username", "password_env", "timeout", "attempts"),
        }
        source = self.source.model_dump(mode="json", exclude=elsewhere)
        # Left out where it is as it always was: definitions in caches are compared.
        if source.get("untagged") == "refuse":
            del source["untagged"]
        if not source.get("leave_out", True):
            del source["leave_out"]
        definition = {
            "source": source,
            "align": self.align.model_dump(mode="json", exclude_none=True),
            "trials": self.trials.model_dump(mode="json"),
            "split": self.split.model_dump(mode="json"),
            **self.entry(eid).model_dump(mode="json", exclude={"eid"}),
        }
        if self.align.contiguous is not None:
            del definition["trials"]
        return definition

    def definition_hash(self, eid: str) -> str:
        """SHA-256 of the canonical JSON of `definition(eid)`, in hexadecimal."""
        text = json.dumps(self.definition(eid), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True)
class Catalog:
    """Every dataset of one catalog file, by name."""

    path: Path
    datasets: Mapping[str, Dataset]
    found: bool = False
    """Whether it was found from the working directory upwards, and not named."""

    def dataset(self, name: str, *, offline: bool = False) -> Dataset:
        """Look a dataset up.

        Parameters
        ----------
        name
            One of `datasets`.
        offline
            Whether no database is asked.

        Raises
        ------
        UserError
            If there is no such dataset; or if a password would be sent to an address that only a
            catalog names which lay about in some folder.
        """
        if name in self.datasets:
            dataset = self.datasets[name]
            if isinstance(dataset.source, AlyxSource) and self.found and not offline:
                self._check_address(dataset.source)
            return dataset
        close = difflib.get_close_matches(name, self.datasets, n=1)
        known = ", ".join(sorted(self.datasets)) or "none"
        hint = f"did you mean '{close[0]}'?" if close else f"known datasets: {known}"
        raise UserError(f"no dataset '{name}' in {self.path}; {hint}")

    def _check_address(self, source: AlyxSource) -> None:
        own = shipped(_CATALOG)
        if self.path.resolve() == own.resolve():
            return
        sources = [d.source for d in read_settings(own, _CatalogFile).datasets.values()]
        if source.url not in {s.url for s in sources if isinstance(s, AlyxSource)}:
            raise UserError(
                f"{self.path}, found from here upwards, would have the password in "
                f"{source.password_env} sent to {source.url}; if you know this catalog, "
                f"name it: --catalog {self.path}"
            )


class _CatalogFile(Settings):
    datasets: dict[str, Dataset]


def load_catalog(path: Path | None = None) -> Catalog:
    """Read a catalog; relative paths in it start from the catalog's own folder.

    Parameters
    ----------
    path
        A YAML file. None: ``data_catalog.yaml``, from the working directory upwards, else the
        copy that is installed with the package.

    Raises
    ------
    UserError
        If the file cannot be read or a key or value in it does not fit; names the line.

    Examples
    --------
    >>> catalog = load_catalog()
    >>> catalog.dataset("demo").source.sessions
    4
    """
    found = path is None
    path = find_shipped(_CATALOG) if path is None else Path(path).expanduser()
    datasets = read_settings(path, _CatalogFile).datasets
    return Catalog(path, {name: _anchored(d, path.parent) for name, d in datasets.items()}, found)


def _anchored(dataset: Dataset, folder: Path) -> Dataset:
    if dataset.source.path is None or str(dataset.source.path).startswith("$"):
        return dataset
    path = folder / dataset.source.path.expanduser()
    source = dataset.source.model_copy(update={"path": path})
    return dataset.model_copy(update={"source": source})
