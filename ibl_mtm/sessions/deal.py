"""How the trials of sessions are dealt out to train, val and test: decided once, kept by a run.

deal = deal_trials(ds, settings.data)               # what ingest, training and evaluation agree on
write_deals(Path("runs/mtm"), {eid: deal})
read_deals(Path("runs/mtm"))[eid].check(ds)         # refuses a cache whose trials are others
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import xarray as xr

from ibl_mtm.config.dataset import Split
from ibl_mtm.disk.replace import replace_file
from ibl_mtm.errors import UserError
from ibl_mtm.sessions.selection import SelectionSettings
from ibl_mtm.sessions.split import split_trials
from ibl_mtm.sessions.text import as_text

__all__ = [
    "TRIALS",
    "Deal",
    "check_held_out",
    "deal_trials",
    "digest_of",
    "read_deals",
    "write_deals",
]

TRIALS = "trials.parquet"
"""The file of a run, and of a model that was published, which holds them."""

#: Windows that start within a microsecond of each other are one and the same.
_SAME = 1e-6


@dataclass(frozen=True)
class Deal:
    """All trials of a session, and what each of them is for.

    Attributes
    ----------
    trial : ndarray (trial,), int64
        Numbers in the session's own table.
    window_start : ndarray (trial,), float64
        When their windows start (s, session clock).
    window_length
        How long each of them is (s).
    split : ndarray (trial,), str
        train, val or test.
    used : ndarray (trial,), bool
        Whether training may use them at all (``data.included_only``).
    rule
        How they were dealt out, in words.
    kept_in
        The folder of the run that keeps this; ``""`` if none does.
    """

    trial: np.ndarray
    window_start: np.ndarray
    window_length: float
    split: np.ndarray
    used: np.ndarray
    rule: str
    kept_in: str = ""

    def check(self, ds: xr.Dataset) -> None:
        """Make sure that a session of a cache has the trials that were dealt out.

        Raises
        ------
        UserError
            If it has others: what they are for was never decided.
        """
        if np.array_equal(ds.trial.values, self.trial) and np.allclose(
            ds.window_start.values, self.window_start, rtol=0, atol=_SAME
        ):
            return
        raise UserError(
            f"session {ds.attrs['eid']} has other trials in this cache ({ds.sizes['trial']}) than "
            f"{self.kept_in} was trained with ({len(self.trial)}), so which are held out is not "
            "known; ingest it as it was then ('align' and 'trials' of the catalog), or train anew"
        )

    def n_seen_by(self, before: "Deal") -> int:
        """How many test trials overlap one that trained or chose a model before."""
        seen = np.sort(before.window_start[before.used & (before.split != "test")])
        start = self.window_start[self.split == "test"]
        around = np.concatenate([[-np.inf], seen, [np.inf]])
        at = np.searchsorted(seen, start, side="right")
        since, until = start - around[at], around[at + 1] - start
        touching = (since < before.window_length - _SAME) | (until < self.window_length - _SAME)
        return int(touching.sum())

    @property
    def digest(self) -> str:
        """A digest of all trials, their windows and what they are for."""
        return self._digest(np.ones(len(self.trial), bool))

    @property
    def test_digest(self) -> str:
        """The same of the test trials alone."""
        return self._digest(self.split == "test")

    def _digest(self, which: np.ndarray) -> str:
        whole = hashlib.sha256(self.trial[which].astype("<i8").tobytes())
        whole.update(np.rint(self.window_start[which] * 1e6).astype("<i8").tobytes())
        whole.update(" ".join(self.split[which].tolist()).encode())
        return whole.hexdigest()[:16]


def deal_trials(ds: xr.Dataset, settings: SelectionSettings) -> Deal:
    """Deal out a session's trials: as settings ask, or as the cache has them.

    All trials are dealt out, whichever of them are used: a split depends on nothing that a filter
    may change.

    Raises
    ------
    UserError
        If only included trials are to be used and none are told.
    """
    eid = str(ds.attrs["eid"])
    used = np.ones(ds.sizes["trial"], bool)
    if settings.included_only:
        if "included" not in ds:
            raise UserError(f"session {eid} has no trials table; set data.included_only=false")
        used = ds.included.values.astype(bool)
    chosen, length = settings.split, ds.sizes["time"] * float(ds.attrs["bin_size"])
    if chosen is None:
        split, rule = as_text(ds.split), _rule_of(ds)
    else:
        assert chosen.kind != "file"  # SelectionSettings
        split = split_trials(
            eid,
            ds.trial.values,
            chosen.fractions,
            chosen.kind,
            chosen.seed,
            ds.window_start.values,
            length,
        )
        rule = _in_words(chosen)
    return Deal(
        ds.trial.values.astype(np.int64),
        ds.window_start.values.astype(np.float64),
        length,
        split,
        used,
        rule,
    )


def digest_of(deals: Mapping[str, Deal]) -> str:
    """A digest of (session, trial, split) of many sessions."""
    lines = [f"{eid} {deals[eid].digest}" for eid in sorted(deals)]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def check_held_out(deals: Mapping[str, Deal], trained: Mapping[str, Deal], source: str) -> None:
    """Make sure that what a new run holds out did not train the model that it starts from.

    Parameters
    ----------
    deals, trained
        Of the new run's sessions, and of the trained model's.
    source
        Name of the trained model, for messages.

    Raises
    ------
    UserError
        Names the first session of which test trials would not be held out.
    """
    for eid in sorted(deals.keys() & trained.keys()):
        if n_seen := deals[eid].n_seen_by(trained[eid]):
            n_test = int((deals[eid].split == "test").sum())
            raise UserError(
                f"{n_seen} of {n_test} test trials of session {eid} trained {source}, and would "
                f"not be held out: set data.split as it was there ({trained[eid].rule}), or leave "
                "the session out with --where"
            )


def write_deals(folder: Path, deals: Mapping[str, Deal]) -> None:
    """Write how the trials of a run's sessions are dealt out, at once."""
    columns = ("trial", "window_start", "window_length", "split", "used", "rule")
    tables = [
        pd.DataFrame({"eid": eid, **{name: getattr(deal, name) for name in columns}})
        for eid, deal in deals.items()
    ]
    replace_file(folder / TRIALS, pd.concat(tables, ignore_index=True).to_parquet)


def read_deals(folder: Path) -> dict[str, Deal]:
    """Read what a run keeps, by eid; empty for a run of a version that kept nothing.

    Raises
    ------
    UserError
        If the file is damaged.
    """
    file = folder / TRIALS
    if not file.is_file():
        return {}
    try:
        table = pd.read_parquet(file)
        return {
            str(eid): Deal(
                rows["trial"].to_numpy(np.int64, copy=True),
                rows["window_start"].to_numpy(np.float64, copy=True),
                float(rows["window_length"].iloc[0]),
                rows["split"].to_numpy().astype(str),
                rows["used"].to_numpy(bool, copy=True),
                str(rows["rule"].iloc[0]),
                str(folder),
            )
            for eid, rows in table.groupby("eid", sort=False)
        }
    except (ValueError, KeyError, OSError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(
            f"{file} is damaged ({reason}): which trials are held out is not known; train anew"
        ) from None


def _rule_of(ds: xr.Dataset) -> str:
    """The split that a session was ingested with, in words."""
    definition = json.loads(ds.attrs["definition"])
    if "split" not in definition:
        return "as ingested"
    return _in_words(Split.model_validate(definition["split"]))


def _in_words(split: Split) -> str:
    if split.kind == "file":
        return "as the files have it" + (f", {split.domains}" if split.domains else "")
    shares = "/".join(f"{100 * share:g}" for share in split.fractions)
    return f"{split.kind}, {shares} % train/val/test, seed {split.seed}"
