"""The table that scores of submissions lie in: read without what it takes to make it.

read_scores(Path("predictions"))                # label, task, recording, seed, metric, score
"""

from pathlib import Path

import pandas as pd

from ibl_mtm.errors import UserError

__all__ = ["COLUMNS", "SCORES", "read_scores"]

SCORES = "scores.csv"
COLUMNS = ["label", "task", "recording", "seed", "metric", "score"]


def read_scores(folder: Path) -> pd.DataFrame:
    """Read what `write_scores` wrote.

    Raises
    ------
    UserError
        If there is nothing, or it is damaged.
    """
    file = folder / SCORES
    if not file.is_file():
        raise UserError(f"{folder} holds no {SCORES}; run `ibl-mtm benchmark score {folder}`")
    kinds = {"label": str, "task": str, "recording": str, "seed": int, "score": float}
    try:
        table = pd.read_csv(file, dtype=kinds, keep_default_na=False, na_values={"score": [""]})
        return table[COLUMNS]
    except (ValueError, KeyError) as error:
        raise UserError(f"{file} is damaged ({error}); delete it and score anew") from None
