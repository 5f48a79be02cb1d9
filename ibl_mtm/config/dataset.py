"""One dataset of the catalog: its source, and how it is aligned, binned and split.

Dataset(source=LocalSource(kind="local", path=Path("/data/ONE")), align=Align(bin=0.05))
"""

import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from ibl_mtm.config.sources import AlyxSource, BrainsetsSource, Source
from ibl_mtm.config.yaml_settings import Settings

__all__ = ["Align", "Dataset", "SessionEntry", "Split", "TrialRules"]

_NAME = re.compile(r"[A-Za-z]\w*", re.ASCII)
_WITH_SIGNALS = ("local", "phy", "nwb")
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


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
    """Which trials are marked `included`, for behaviour decoding (all limits in s, inclusive).

    A rule whose columns the trials table lacks is left out, with a note.
    """

    min_reaction: float = Field(
        default=0.08, ge=0, description="first movement after stimulus onset"
    )
    max_reaction: float = Field(default=2.0, gt=0)
    max_length: float = Field(default=10.0, gt=0, description="go cue to feedback")
    keep: tuple[str, ...] | Literal["all"] = Field(
        default=(),
        description="further columns of the trials table (numbers, booleans, text) that the cache "
        "keeps under their names; those that 'conditions' and 'decode' name are kept anyway",
    )

    def definition(self) -> dict[str, Any]:
        """All of it, as a plain JSON mapping; without `keep` as it was before there was one."""
        return self.model_dump(mode="json", exclude=None if self.keep else {"keep"})


class Split(Settings):
    """How a session's trials are dealt out to train, val and test.

    ``kind: file`` takes train, val and test from where the source's files say they are; windows
    that are not wholly in one of them are left out, and `fractions` and `seed` mean nothing.
    """

    fractions: tuple[float, float, float] = (0.7, 0.1, 0.2)
    kind: Literal["random", "blocks", "file"] = "random"
    seed: int = Field(default=42, ge=0)
    domains: Literal["ts1", "ts2", "pretrain"] | None = Field(
        default=None, description="of kind file: which domains; by default ts1, or pretrain's own"
    )

    @model_validator(mode="after")
    def _domains_of_files(self) -> "Split":
        if self.domains is not None and self.kind != "file":
            raise ValueError("'domains' are for kind: file")
        return self

    def definition(self) -> dict[str, Any]:
        """All of it that decides a split, as a plain JSON mapping."""
        if self.kind == "file":
            return self.model_dump(mode="json", include={"kind", "domains"})
        return self.model_dump(mode="json", exclude={"domains"})

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
    """One dataset of the catalog.

    `signals`, `conditions` and `decode` are for tasks of one's own. The cache keeps them with each
    session, so that whoever scores it needs no catalog.
    """

    source: Source
    sessions: tuple[SessionEntry, ...] | None = Field(default=None, min_length=1)
    align: Align = Align()
    trials: TrialRules = TrialRules()
    split: Split = Split()
    signals: dict[str, str] = Field(
        default={},
        description="further traces, each on a clock of its own: a name, and where the source has "
        "it (in ONE's layout 'pupil.diameter' with 'pupil.times'; of Phy a file; in NWB a path)",
    )
    conditions: tuple[str, ...] = Field(
        default=(),
        description="variables of trials by which mean responses are taken; choice and block "
        "where none is named",
    )
    decode: dict[str, Literal["class", "trace"]] = Field(
        default={},
        description="what is decoded beside the behaviours that are built in: variables of trials "
        "with two values (class), or signals (trace)",
    )

    @field_validator("signals", "decode", "conditions")
    @classmethod
    def _are_names(cls, names: Any) -> Any:
        for name in names:
            if not _NAME.fullmatch(name):
                raise ValueError(
                    f"'{name}' cannot name a variable: letters, digits and '_', a letter first"
                )
        return names

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

    @model_validator(mode="after")
    def _has_signals(self) -> "Dataset":
        if self.signals and self.source.kind not in _WITH_SIGNALS:
            raise ValueError(
                f"'signals' are read by sources of kind {', '.join(_WITH_SIGNALS)}, not "
                f"{self.source.kind}"
                + ("; give them to add_session itself" if self.source.kind == "arrays" else "")
            )
        return self

    @model_validator(mode="after")
    def _fits_the_files(self) -> "Dataset":
        if isinstance(self.source, BrainsetsSource):
            if self.source.regime == "eval":
                told = [e for e in self.sessions or () if "role" in e.model_fields_set]
                wrong = [e.eid for e in told if e.role == "pretrain"]
                if wrong:
                    raise ValueError(
                        f"session {wrong[0]} is of an animal that the benchmark evaluates "
                        "(regime: eval), so its role is finetune"
                    )
        elif self.split.kind == "file":
            raise ValueError(
                "split: {kind: file} is for files that say what trains and what tests "
                "(source: {kind: brainsets})"
            )
        return self

    @property
    def kept(self) -> tuple[str, ...]:
        """Columns of the trials table that are kept by name."""
        named = () if self.trials.keep == "all" else self.trials.keep
        classes = (name for name, kind in self.decode.items() if kind == "class")
        return tuple(dict.fromkeys((*named, *self.conditions, *classes)))

    def entry(self, eid: str) -> SessionEntry:
        """What the catalog says about one session; the defaults where it lists none."""
        evaluated = isinstance(self.source, BrainsetsSource) and self.source.regime == "eval"
        role: Literal["pretrain", "finetune"] = "finetune" if evaluated else "pretrain"
        entry = next((e for e in self.sessions or () if e.eid == eid), SessionEntry(eid=eid))
        return (
            entry if "role" in entry.model_fields_set else entry.model_copy(update={"role": role})
        )

    def definition(self, eid: str) -> dict[str, Any]:
        """All that decides what the cache holds of a session, as a plain JSON mapping.

        Left out is what does not: where the files lie, and which other sessions there are.
        """
        definition = {
            "source": self.source.definition(),
            "align": self.align.model_dump(mode="json", exclude_none=True),
            "trials": self.trials.definition(),
            "split": self.split.definition(),
            **self.entry(eid).model_dump(mode="json", exclude={"eid"}),
        }
        if self.align.contiguous is not None:
            del definition["trials"]
        own: dict[str, Any] = {
            "signals": dict(self.signals),
            "conditions": list(self.conditions),
            "decode": dict(self.decode),
        }
        return definition | {key: value for key, value in own.items() if value}

    def definition_hash(self, eid: str) -> str:
        """SHA-256 of the canonical JSON of `definition(eid)`, in hexadecimal."""
        text = json.dumps(self.definition(eid), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()
