"""The results of a workflow: made from evaluated runs, kept as one JSON file.

results = make_results("ablation", [Path("runs/mtm-0"), Path("runs/mtm-1")], command="snakemake …")
results.summary, results.differences, results.findings
read_results(Path("results/ablation"))      # what `ibl_mtm.experiments.write` wrote there
"""

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd

from ibl_mtm.errors import UserError
from ibl_mtm.experiments.findings import Finding, find
from ibl_mtm.experiments.kinds import kind_of, row_of
from ibl_mtm.experiments.read import Replicate, read_replicates, score_lines
from ibl_mtm.experiments.summary import average_scores, paired_difference
from ibl_mtm.training.outcome import read_outcome

__all__ = ["RESULTS", "Results", "RowInfo", "make_results", "read_results", "to_json"]

RESULTS = "results.json"


@dataclass(frozen=True)
class RowInfo:
    """What the runs of a row have in common.

    Attributes
    ----------
    series
        The name of their settings.
    pretrained, animals
        Whether they started from another run, and from how many animals.
    schemes, prompted
        Masking schemes of the training, and whether it told the model which.
    baseline
        Whether it is one, which nothing was trained for.
    """

    series: str
    pretrained: bool
    animals: int
    schemes: list[str]
    prompted: bool
    baseline: bool = False


@dataclass(frozen=True)
class Results:
    """A table of scores, what it shows, and how it came about.

    Attributes
    ----------
    kind
        One of `ibl_mtm.experiments.kinds.KINDS`.
    simulated
        Whether any of the data are.
    rows
        What stands behind each row, by its name.
    lines, summary
        From `score_lines` and `average_scores`.
    differences
        From `paired_difference`, with columns row and against.
    findings
        What was to be seen, and whether it is.
    made
        Command, dates, commits, seeds, data and whose they are, times (s) and threads.
    """

    kind: str
    simulated: bool
    rows: dict[str, RowInfo]
    lines: pd.DataFrame
    summary: pd.DataFrame
    differences: pd.DataFrame
    findings: list[Finding]
    made: dict[str, Any]

    @property
    def title(self) -> str:
        """A heading, which says so if the data are simulated."""
        return kind_of(self.kind).title + (" (simulated data)" if self.simulated else "")


def make_results(
    kind: str, paths: Sequence[Path], command: str | None = None, credit: str | None = None
) -> Results:
    """Gather evaluated runs.

    Parameters
    ----------
    kind
        One of `ibl_mtm.experiments.kinds.KINDS`.
    paths
        Folders of evaluated runs and baselines; their order is that of the rows.
    command
        How all of it is made again.
    credit
        Whose data they are, as captions are to say.

    Raises
    ------
    UserError
        If the kind is unknown, or a run was not evaluated.
    """
    chosen = kind_of(kind)
    runs = read_replicates(paths)
    names = [row_of(chosen, run) for run in runs]
    lines = score_lines(runs, names)
    if lines.empty:
        raise UserError(f"none of the {len(runs)} runs has a score")
    rows: dict[str, RowInfo] = {}
    for name, run in zip(names, runs, strict=True):
        info = RowInfo(
            *(run.series, run.pretrained, run.animals, run.schemes, run.prompted, run.is_baseline)
        )
        rows.setdefault(name, info)
    summary, differences = average_scores(lines), _differences(lines, rows)
    return Results(
        kind=kind,
        simulated=any(run.run.simulated for run in runs),
        rows=rows,
        lines=lines,
        summary=summary,
        differences=differences,
        findings=find(kind, {name: asdict(row) for name, row in rows.items()}, summary),
        made=_how(runs, command) | {"credit": credit},
    )


def _differences(lines: pd.DataFrame, rows: dict[str, RowInfo]) -> pd.DataFrame:
    """Fine-tuned against from scratch and baselines, if any is; else each against the first.

    All that is fine-tuned is compared with what was trained from scratch under the same settings.
    """
    first, *others = rows
    pairs = [(name, first) for name in others]
    if any(row.pretrained for row in rows.values()):
        scratch = {row.series: name for name, row in rows.items() if not row.pretrained}
        tuned = {name: row.series for name, row in rows.items() if row.pretrained}
        pairs = [(name, scratch[series]) for name, series in tuned.items() if series in scratch]
        pairs += [(name, other) for name in tuned for other, row in rows.items() if row.baseline]
    tables = [
        paired_difference(lines, name, against).assign(row=name, against=against)
        for name, against in pairs
    ]
    columns = ["row", "against", "task", "difference", "sem", "n_pairs", "n_sessions"]
    return (
        pd.concat(tables, ignore_index=True)[columns]
        if tables
        else pd.DataFrame([], columns=columns)
    )


def _how(runs: Sequence[Replicate], command: str | None) -> dict[str, Any]:
    outcomes = {run.run.path.resolve(): run.outcome for run in runs if run.outcome}
    for run in runs:
        # A pre-training that many runs started from counts once.
        source = run.source
        before = read_outcome(source) if source else None
        if source and before:
            outcomes[source.resolve()] = before
    scores = [run.run.scores for run in runs]
    sessions = {eid for one in scores for eid in one["sessions"]}
    commits = [one.get("commit") for one in (*outcomes.values(), *scores)]
    return {
        "command": command,
        "date": datetime.now(UTC).date().isoformat(),
        "commits": sorted({str(commit) for commit in commits if commit}),
        "dataset": ", ".join(sorted({one["provenance"]["dataset"] for one in scores})),
        "splits": sorted({run.split for run in runs}),
        "seeds": sorted({run.seed for run in runs if run.outcome}),
        "n_sessions": len(sessions),
        "n_runs": len(runs),
        "n_trainings": len(outcomes),
        "training_seconds": sum(one["seconds"] for one in outcomes.values()),
        "evaluation_seconds": sum(one.get("seconds", 0) for one in scores),
        "threads": sorted({one["threads"] for one in outcomes.values() if "threads" in one}),
    }


def to_json(results: Results) -> str:
    """As one JSON document; what is not known is null."""
    document = {
        "kind": results.kind,
        "simulated": results.simulated,
        "rows": {name: asdict(row) for name, row in results.rows.items()},
        **{name: _records(getattr(results, name)) for name in _TABLES},
        "findings": [asdict(finding) for finding in results.findings],
        "made": results.made,
    }
    return json.dumps(document, indent=1, allow_nan=False)


_TABLES = ("summary", "differences", "lines")


def read_results(folder: Path) -> Results:
    """Read what `write_results` wrote.

    Raises
    ------
    UserError
        If the folder holds no results, or not of this version.
    """
    file = Path(folder) / RESULTS
    if not file.is_file():
        raise UserError(f"{folder} has no {RESULTS}: make it with `ibl-mtm results table`")
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
        tables: dict[str, Any] = {name: pd.DataFrame(found.pop(name)) for name in _TABLES}
        rows = {name: RowInfo(**row) for name, row in found.pop("rows").items()}
        findings = [Finding(**finding) for finding in found.pop("findings")]
        if set(found) | {*tables, "rows", "findings"} != {field.name for field in fields(Results)}:
            raise ValueError("other keys than results have")
    except (ValueError, TypeError, KeyError) as error:
        raise UserError(f"{file} is damaged ({error}): make it again") from None
    return Results(rows=rows, findings=findings, **tables, **found)


def _records(table: pd.DataFrame) -> list[dict[str, Any]]:
    return [
        {
            str(key): None if isinstance(value, float) and math.isnan(value) else value
            for key, value in record.items()
        }
        for record in table.to_dict("records")
    ]
