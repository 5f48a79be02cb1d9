"""What a trial looks like to a model: its bins, and the event that it is aligned to.

trial_format(ds)           # TrialFormat(n_time=100, bin_size=0.02, alignment="stimOn_times", ...)
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["TrialFormat", "trial_format"]


@dataclass(frozen=True)
class TrialFormat:
    """What a trial looks like; a model meets only data of its own format.

    Attributes
    ----------
    n_time
        Number of time bins T.
    bin_size
        Width of a bin, s.
    alignment
        The event that trials are aligned to, or ``contiguous``.
    start
        Left edge of the first bin, s after the event.
    """

    n_time: int
    bin_size: float
    alignment: str
    start: float


def trial_format(ds: "xr.Dataset") -> TrialFormat:
    """Format of a session's trials."""
    time = ds.time.values
    return TrialFormat(
        n_time=len(time),
        bin_size=round(float(ds.attrs["bin_size"]), 9),
        alignment=str(ds.attrs["alignment"]),
        start=round(float(time[0]), 9),
    )
