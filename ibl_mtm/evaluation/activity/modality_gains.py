"""How much each modality adds to what behaviour tells of a unit's spikes.

columns = modality_gains(predictor, counts, bits)    # by column of the table of units, (unit,)
summarise_gains(table)                               # over units, by region, as JSON has them

Bits/spike of all behaviour less those of all but one variable. What two variables both tell is in
neither of them, so the gains add up to less than encoding has, and a gain below zero is noise.
"""

from typing import Any

import numpy as np
import pandas as pd

from ibl_mtm.evaluation.metrics import bits_per_spike
from ibl_mtm.evaluation.predictors import Predictor

__all__ = ["GAIN", "modality_gains", "summarise_gains"]

GAIN = "adds_"
"""Beginning of the columns, before a modality's name (or several with a ``+`` between)."""


def modality_gains(
    predictor: Predictor, counts: np.ndarray, bits: np.ndarray
) -> dict[str, np.ndarray]:
    """Bits/spike that each variable of behaviour adds to all others, for each unit.

    Parameters
    ----------
    predictor
        That can predict encoding.
    counts : ndarray (trial, time, unit)
        Of the test trials.
    bits : ndarray (unit,)
        Bits/spike of encoding from all behaviour.
    """
    return {
        GAIN + what: bits - bits_per_spike(rates, counts)
        for what, rates in predictor.without_modality()
    }


def summarise_gains(per_unit: pd.DataFrame) -> dict[str, Any]:
    """The gains of each variable: over units, then over sessions; and of each region's units.

    Parameters
    ----------
    per_unit
        Rows of encoding, with columns eid, region and those of `modality_gains`, NaN where a
        session does not have it.

    Returns
    -------
    dict
        By variable: ``bits_per_spike``, its ``sem`` (over sessions; of a single one over units),
        ``n_units``, ``n_sessions``, and ``regions``, each with bits_per_spike, the mean over
        sessions of the means over units, and n_units.
    """
    found: dict[str, Any] = {}
    for column in (str(name) for name in per_unit.columns if str(name).startswith(GAIN)):
        scored = per_unit[per_unit[column].notna()]
        if scored.empty:
            continue
        sessions = scored.groupby("eid")[column].mean()
        spread = sessions if len(sessions) > 1 else scored[column]
        regions = {
            str(region): {
                "bits_per_spike": round(float(own.groupby("eid")[column].mean().mean()), 6),
                "n_units": len(own),
            }
            for region, own in scored.groupby("region")
        }
        found[column.removeprefix(GAIN)] = {
            "bits_per_spike": round(float(sessions.mean()), 6),
            **(
                {"sem": round(float(spread.std() / np.sqrt(len(spread))), 6)}
                if len(spread) > 1
                else {}
            ),
            "n_units": len(scored),
            "n_sessions": len(sessions),
            "regions": regions,
        }
    return found
