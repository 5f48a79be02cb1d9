"""What a report shows of an experiment of many runs, made of what a page can show as it is.

write_report([Path("runs/mtm-0")], Path("report.html"), [Experiment("Masking schemes", ...)])
"""

from dataclasses import dataclass

from markupsafe import Markup

from ibl_mtm.report.tables import Row

__all__ = ["Experiment", "Observation"]


@dataclass(frozen=True)
class Observation:
    """What was expected of an experiment, with the numbers that decide; whether it is seen."""

    text: str
    verdict: str
    seen: bool


@dataclass(frozen=True)
class Experiment:
    """A table of scores with its figure and what is to be seen in it."""

    title: str
    question: str
    columns: list[tuple[str, str]]
    rows: list[Row]
    caption: str
    figure: Markup
    observations: list[Observation]
