"""What an evaluation found: its document, its tables, examples to look at; written to a folder.

evaluation.metrics["tasks"]["co_smoothing"]["bits_per_spike"]
evaluation.write(Path("runs/mtm"))
"""

import json
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pandas as pd
import xarray as xr

from ibl_mtm.cache.groups import write_group
from ibl_mtm.disk.ownership import remove
from ibl_mtm.disk.replace import replace_file
from ibl_mtm.evaluation.merge import METRICS, PAIRS, PER_UNIT, join
from ibl_mtm.evaluation.score_session import SessionScores

__all__ = ["Evaluation"]

EXAMPLES = "evaluation.zarr"


@dataclass(frozen=True)
class Evaluation:
    """Scores of a run or a baseline.

    Attributes
    ----------
    metrics
        The JSON document of `ibl-mtm eval`.
    per_unit
        One row per session, unit and activity task.
    region_pairs
        One row per session and pair of regions.
    scores
        Everything that was scored and decoded, by session.
    examples
        Predictions to look at, a dataset per session.
    """

    metrics: dict[str, Any]
    per_unit: pd.DataFrame
    region_pairs: pd.DataFrame
    scores: dict[str, SessionScores]
    examples: dict[str, xr.Dataset]

    def write(self, folder: str | Path, *, overwrite: bool = False) -> None:
        """Write ``metrics.json``, tables and ``evaluation.zarr`` to a folder.

        Scores that are there stay beside these, if they are of the same model and data.

        Parameters
        ----------
        folder
            Of the run, or for the scores of a baseline.
        overwrite
            Replace what is there instead.

        Raises
        ------
        UserError
            If these scores and those that are there cannot stand side by side.
        """
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        metrics, per_unit, pairs = self.metrics, self.per_unit, self.region_pairs
        if not overwrite:
            metrics, per_unit, pairs = join(folder, metrics, per_unit, pairs)
        if overwrite or not (folder / METRICS).is_file():
            remove(folder, [EXAMPLES])
        for eid, examples in self.examples.items():
            with TemporaryDirectory(dir=folder, prefix=".evaluation.") as aside:
                write_group(Path(aside) / eid, examples)
                (folder / EXAMPLES).mkdir(exist_ok=True)
                remove(folder / EXAMPLES, [eid])
                (Path(aside) / eid).rename(folder / EXAMPLES / eid)
        replace_file(folder / PER_UNIT, per_unit.to_parquet)
        replace_file(folder / PAIRS, pairs.to_parquet)
        text = json.dumps(metrics, indent=1)
        replace_file(folder / METRICS, lambda path: path.write_text(text, encoding="utf-8"))
