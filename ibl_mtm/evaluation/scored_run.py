"""A run that has been evaluated: its scores, its training curves and its example predictions.

run = read_scored_run(Path("runs/mtm"))
run.scores["tasks"]["co_smoothing"], run.units, run.session(eid), run.curves()
"""

import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd
import xarray as xr
import yaml

from ibl_mtm.errors import UserError
from ibl_mtm.evaluation.behaviour.behaviours import Behaviour, behaviours_in
from ibl_mtm.sessions.schema import UNKNOWN_COLOR

__all__ = [
    "UNIT_COLUMNS",
    "ScoredRun",
    "decoded",
    "read_scored_run",
    "read_scored_runs",
    "region_table",
]

UNIT_COLUMNS = (
    "eid",
    "unit",
    "region",
    "cosmos",
    "task",
    "bits_per_spike",
    "poisson_d2",
    "psth_r2",
    "residual_r2",
    "n_spikes",
    "firing_rate",
    "label",
    "oracle",
)
"""Of the table of units."""


@dataclass(frozen=True)
class ScoredRun:
    """What evaluation left in a run folder.

    Attributes
    ----------
    path, name
        The folder, and what to call the run.
    settings
        The resolved settings of the training (config.yaml).
    scores
        The document of `ibl-mtm eval` (metrics.json).
    units
        One row per unit and task (per_unit.parquet).
    """

    path: Path
    name: str
    settings: dict[str, Any]
    scores: dict[str, Any]
    units: pd.DataFrame

    @property
    def simulated(self) -> bool:
        """Whether the spikes come from a simulated experiment."""
        return bool(self.scores.get("simulated"))

    @property
    def eids(self) -> list[str]:
        """The sessions that were scored."""
        return list(self.scores.get("sessions", {}))

    def task(self, name: str) -> dict[str, Any]:
        """Scores of one task over all sessions; empty if it could not be had."""
        return self.scores["tasks"].get(name) or {}

    def session(self, eid: str) -> xr.Dataset | None:
        """Example predictions of one session, read lazily; None if none were stored."""
        group = self.path / "evaluation.zarr" / eid
        if not (group / "zarr.json").is_file():
            return None
        return xr.open_dataset(group, engine="zarr", consolidated=False)

    def curves(self) -> pd.DataFrame:
        """Scalars logged in training: columns tag, step, value, ordered by tag and step."""
        # Half a second that only a report needs.
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

        rows: list[tuple[str, int, float, float]] = []
        folders = {file.parent for file in (self.path / "logs").rglob("events.out.tfevents.*")}
        for folder in sorted(folders):
            events = EventAccumulator(str(folder), size_guidance={"scalars": 0}).Reload()
            for tag in events.Tags()["scalars"]:
                rows += [(tag, e.step, e.value, e.wall_time) for e in events.Scalars(tag)]
        table = pd.DataFrame(rows, columns=["tag", "step", "value", "wall_time"])
        # A resumed training logs the steps after its checkpoint again: the last one counts.
        table = table.sort_values(["tag", "step", "wall_time"])
        table = table.drop_duplicates(["tag", "step"], keep="last")
        return table.drop(columns="wall_time").reset_index(drop=True)


def read_scored_run(path: str | Path) -> ScoredRun:
    """Read the scores of a run folder: tables, and example predictions of its sessions.

    Parameters
    ----------
    path
        Where `ibl-mtm eval` wrote scores.

    Raises
    ------
    UserError
        If there is no such folder, it was not evaluated yet, or a file in it is damaged.
    """
    path = Path(path)
    if not path.is_dir():
        raise UserError(f"no run folder at {path}")
    for name in ("metrics.json", "per_unit.parquet"):
        if not (path / name).is_file():
            raise UserError(f"{path} has no {name}: run `ibl-mtm eval {path} --cache CACHE` first")
    # TensorBoard warns of every restart of a training, which resuming is.
    logging.getLogger("tensorboard").setLevel(logging.ERROR)
    settings = path / "config.yaml"
    try:
        return ScoredRun(
            path=path,
            name=path.resolve().name,
            settings=yaml.safe_load(settings.read_text()) if settings.is_file() else {},
            scores=json.loads((path / "metrics.json").read_text()),
            units=_with_columns(pd.read_parquet(path / "per_unit.parquet")),
        )
    except (ValueError, OSError, yaml.YAMLError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"{path} holds a damaged file ({reason}): evaluate it again") from None


def _with_columns(units: pd.DataFrame) -> pd.DataFrame:
    """A table of units; of a run without activity, one without rows that has every column."""
    return units if len(units.columns) else units.reindex(columns=list(UNIT_COLUMNS)).astype(object)


def read_scored_runs(paths: Sequence[Path]) -> list[ScoredRun]:
    """Read several runs; those whose folders have the same name are called by their paths."""
    runs = [read_scored_run(path) for path in paths]
    names = [run.name for run in runs]
    return [replace(run, name=str(run.path)) if names.count(run.name) > 1 else run for run in runs]


def decoded(runs: Sequence[ScoredRun]) -> dict[str, Behaviour]:
    """The behaviours that may have been decoded in runs, those of their own tasks included."""
    return behaviours_in(run.scores["tasks"] for run in runs)


def region_table(runs: Sequence[ScoredRun]) -> pd.DataFrame:
    """Order and colour of every region that has a scored unit, in the order of the Allen atlas.

    Returns
    -------
    Indexed by region, columns order and color (#rrggbb). Regions that no stored session tells
    of come last, in grey.
    """
    wanted = {str(region) for run in runs for region in run.units["region"].unique()}
    found: dict[str, tuple[float, str]] = {}
    for run in runs:
        for eid in run.eids:
            if wanted <= set(found):
                break
            session = run.session(eid)
            if session is not None:
                names, orders, colors = (
                    session[name].values.tolist() for name in ("region", "order", "color")
                )
                found |= dict(zip(names, zip(orders, colors, strict=True), strict=True))
    rows = [(region, *found.get(region, (float("inf"), UNKNOWN_COLOR))) for region in wanted]
    table = pd.DataFrame(rows, columns=["region", "order", "color"])
    return table.sort_values(["order", "region"]).set_index("region")
