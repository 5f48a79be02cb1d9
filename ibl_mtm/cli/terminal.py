"""How results look in a terminal: tables on standard output, progress on standard error."""

import json
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.measure import Measurement
from rich.padding import Padding
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from ibl_mtm.sessions.text import counted
from ibl_mtm.sessions.titles import in_text

if TYPE_CHECKING:
    from ibl_mtm.cache.cache import Cache
    from ibl_mtm.cli.doctor import Check
    from ibl_mtm.evaluation.compare import Pair
    from ibl_mtm.ingest.run import IngestReport, Outcome
    from ibl_mtm.training.run import TrainReport

__all__ = [
    "IngestProgress",
    "ingest_progress",
    "say",
    "sessions_as_json",
    "show_card",
    "show_checks",
    "show_configurations",
    "show_ingest",
    "show_pairs",
    "show_scores",
    "show_sessions",
    "show_training",
]

# A pipe has no width: rows are as long as they need. Names, paths and reasons are printed as they
# are: what stands in brackets there is no style.
_UNLIMITED = 10_000
out = Console(width=None if sys.stdout.isatty() else _UNLIMITED, markup=False)
err = Console(stderr=True, width=None if sys.stderr.isatty() else _UNLIMITED, markup=False)

_LEFT_ASIDE = 20  # lines that say which and why
STATUS_STYLE = {"ingested": "green", "complete": "dim", "planned": "cyan", "failed": "red"}


def say(message: str) -> None:
    """Tell of progress."""
    err.print(message, style="dim", highlight=False)


class IngestProgress:
    """Lines for sessions as they end, and bars for all of them and for the bytes that come."""

    def __init__(self, bars: Progress) -> None:
        self._bars = bars
        self._sessions = bars.add_task("sessions", total=None, unit="")
        self._bytes: TaskID | None = None

    def session(self, eid: str, outcome: "Outcome", total: int) -> None:
        """Tell what became of a session."""
        detail = outcome.reason or f"{outcome.n_units} units, {outcome.n_trials} trials"
        if outcome.status in ("complete", "planned"):
            detail = f"{size_text(outcome.n_bytes)} to fetch" if outcome.n_bytes else ""
        status = Text(f"{outcome.status:9} ", style=STATUS_STYLE[outcome.status])
        err.print(status.append(f"{eid}  {detail}", style="default"), highlight=False)
        done = self._bars.tasks[0].completed + 1
        self._bars.update(self._sessions, total=total, advance=1, unit=f"{done:.0f} of {total}")

    def bytes(self, n: int, total: int) -> None:
        """Tell of bytes that were downloaded."""
        if self._bytes is None:
            if not total:
                return
            self._bytes = self._bars.add_task("download", total=total, unit="")
        done = self._bars.tasks[1].completed + n
        unit = f"{size_text(done)} of {size_text(total)}"
        self._bars.update(self._bytes, total=total, advance=n, unit=unit)


@contextmanager
def ingest_progress() -> Iterator[IngestProgress]:
    """Show the progress of an ingest, live in a terminal."""
    columns = (TextColumn("{task.description:9}"), BarColumn(16), TextColumn("{task.fields[unit]}"))
    with Progress(
        *columns, TimeElapsedColumn(), console=err, transient=True, disable=not err.is_terminal
    ) as bars:
        yield IngestProgress(bars)


def size_text(n_bytes: float) -> str:
    """A number of bytes, as people read it."""
    for unit in ("bytes", "kB", "MB"):
        if abs(n_bytes) < 1000:
            return f"{n_bytes:.0f} {unit}"
        n_bytes /= 1000
    return f"{n_bytes:.1f} GB"


def show_ingest(report: "IngestReport") -> None:
    """Summary of an ingest."""
    # What several sessions lack alike is told once, below them.
    notes = Counter(n for outcome in report.sessions.values() for n in set(outcome.notes))
    rows = [_ingest_row(eid, outcome, notes) for eid, outcome in report.sessions.items()]
    table = _table(["session", "status", "units", "trials", "seconds", "fetched"])
    table.add_column("remarks")
    for row in rows:
        table.add_row(*row)
    # Reasons need room: where there is little, each stands below its session.
    if rows and _width(table) <= out.width:
        out.print(table)
    elif rows:
        for eid, status, units, trials, seconds, fetched, remarks in rows:
            numbers = f"{units} units, {trials} trials, {seconds} s" if units else fetched
            out.print(status, eid, numbers, highlight=False, soft_wrap=True)
            if remarks:
                out.print(Padding(Text(remarks), (0, 0, 0, 2)), highlight=False)
    for note, n in notes.items():
        if n > 1:
            out.print(Text(f"{n} sessions: {note}"), highlight=False)
    if report.left_aside:
        n = len(report.left_aside)
        out.print(f"{n} session{'s' * (n != 1)} left aside:", highlight=False)
        for folder, why in list(report.left_aside.items())[:_LEFT_ASIDE]:
            out.print(f"  {folder}: {why}", highlight=False, soft_wrap=True)
        if n > _LEFT_ASIDE:
            out.print(f"  and {n - _LEFT_ASIDE} more: see ingest-report.json", highlight=False)
    statuses = Counter(outcome.status for outcome in report.sessions.values())
    counts = ", ".join(f"{n} {status}" for status, n in statuses.items()) or "no session"
    n_bytes = sum(outcome.n_bytes for outcome in report.sessions.values())
    verb = "to fetch" if "planned" in statuses else "fetched"
    fetched = f"; {size_text(n_bytes)} {verb}" if n_bytes else ""
    again = "; the same command tries again those that failed" if report.failed else ""
    out.print(f"{report.cache}: {counts}{fetched}{again}", markup=False, highlight=False)


def _ingest_row(eid: str, outcome: "Outcome", notes: Mapping[str, int]) -> list[Any]:
    done = outcome.status == "ingested"
    return [
        eid,
        Text(outcome.status, style=STATUS_STYLE[outcome.status]),
        f"{outcome.n_units:,}" if done else "",
        f"{outcome.n_trials:,}" if done else "",
        f"{outcome.seconds:.1f}" if done else "",
        size_text(outcome.n_bytes) if outcome.n_bytes else "",
        outcome.reason or "; ".join(note for note in outcome.notes if notes[note] == 1),
    ]


def _table(columns: Sequence[str]) -> Table:
    """A table without lines, of whose columns none is broken."""
    table = Table(box=None)
    for name in columns:
        table.add_column(name, no_wrap=True)
    return table


def _width(table: Table) -> int:
    """Columns of a terminal that a table needs so that nothing in it wraps."""
    return Measurement.get(out, out.options.update(max_width=_UNLIMITED), table).maximum


def sessions_as_json(cache: "Cache") -> list[dict[str, Any]]:
    """Rows of `Cache.sessions` as plain Python."""
    rows: list[dict[str, Any]] = json.loads(cache.sessions.reset_index().to_json(orient="records"))
    return rows


def show_sessions(cache: "Cache") -> None:
    """Table of the sessions of a cache."""
    columns = ["subject", "date", "n_units", "n_good_units", "n_trials", "regions"]
    table = _sessions_table(cache, columns)
    hidden: list[str] = []
    while _width(table) > out.width and len(columns) > 1:
        # An id may be as short as `--session` takes it; then the last columns go.
        if len(cache.short_names) and not hidden:
            table = _sessions_table(cache, columns, cache.short_names)
            if _width(table) <= out.width:
                break
        hidden.insert(0, columns.pop())
        table = _sessions_table(cache, columns, cache.short_names)
    out.print(table, highlight=False)
    if hidden:
        out.print(f"not shown, for want of room: {', '.join(hidden)}", style="dim", highlight=False)
    rows = cache.sessions
    n_units, n_trials = (int(rows[name].sum()) for name in ("n_units", "n_trials"))
    out.print(
        f"{counted(len(rows), 'session')} of {counted(rows['subject'].nunique(), 'subject')}, "
        f"{counted(n_units, 'unit')}, {counted(n_trials, 'trial')}",
        highlight=False,
    )


def _sessions_table(
    cache: "Cache", columns: Sequence[str], names: Mapping[str, str] | None = None
) -> Table:
    # Headings are what `--where` calls them.
    table = _table(["session", *columns])
    for eid, row in cache.sessions.iterrows():
        name = (names or {}).get(str(eid), str(eid))
        table.add_row(name, *(str(row[column]) for column in columns))
    return table


def show_card(card: dict[str, Any]) -> None:
    """Card of one session (see `ibl_mtm.cache.card`)."""
    head = Text(str(card["eid"]), style="bold")
    out.print(head.append(f"  {card['subject']}, {card['lab']}, {card['date']}", style="not bold"))
    table = Table(show_header=False, box=None)
    for key, value in card.items():
        if key in ("regions", "splits"):
            table.add_row(key, "  ".join(f"{name} {count}" for name, count in value.items()))
        elif not isinstance(value, dict) and key not in ("eid", "subject", "lab", "date"):
            table.add_row(key, str(value))
    for name, variable in card["variables"].items():
        unit = f", {variable['units']}" if variable["units"] else ""
        table.add_row(name, f"({', '.join(variable['dims'])}) {variable['dtype']}{unit}")
    for key, value in card["provenance"].items():
        table.add_row(key, json.dumps(value) if isinstance(value, (dict, list)) else str(value))
    out.print(table, highlight=False)


def show_training(report: "TrainReport") -> None:
    """What came out of a training."""
    out.print(
        f"{report.run}: {report.steps} steps in {report.seconds:.0f} s, best at {report.best_step}",
        highlight=False,
    )
    table = Table("validation", "bits/spike", box=None)
    for scheme, score in report.val.items():
        table.add_row(scheme, f"{score:.3f}")
    out.print(table)


def show_scores(scores: Sequence[dict[str, Any]]) -> None:
    """Scores of one or more evaluations beside each other (see `ibl_mtm.evaluation.evaluate`)."""
    with_oracle = any("oracle" in (value or {}) for s in scores for value in s["tasks"].values())
    names = [Path(s["run"]).name if "run" in s else s["baseline"] for s in scores]
    table = Table("task", *names, *(["true rates"] if with_oracle else []), "", box=None)
    for task in scores[0]["tasks"]:
        values = [s["tasks"].get(task) or {} for s in scores]
        cells = [_score(value) for value in values]
        if with_oracle:
            oracle = values[0].get("oracle")
            # Of behaviour: what one tells who knows the latents.
            known = oracle if isinstance(oracle, dict) else {"r2": oracle}
            cells.append("" if oracle is None else _score(known))
        table.add_row(in_text(task), *cells, _remark(values[0]))
    out.print(table)
    if any(s.get("simulated") for s in scores):
        out.print("Simulated data.", style="yellow")
    for s, name in zip(scores, names, strict=True):
        for task, value in s["tasks"].items():
            parts = [f"{key.split('_')[1]} {value[key]:.3f}" for key in value or {}
                     if key.startswith("published_")]  # fmt: skip
            if parts:
                line = f"{in_text(task)}, {name}, R² by the published rules: {', '.join(parts)}"
                out.print(line, highlight=False)
    for s in scores[:1]:
        alike: dict[tuple[str, str], list[str]] = {}
        for eid, tasks in s["skipped"].items():
            for task, reason in tasks.items():
                alike.setdefault((task, reason), []).append(eid)
        for (task, reason), eids in alike.items():
            of = eids[0] if len(eids) == 1 else f"{len(eids)} sessions"
            out.print(f"skipped {task} of {of}: {reason}", style="dim", highlight=False)
        for eid, reason in s.get("failed", {}).items():
            what = "not scored again" if eid in s["sessions"] else "left out"
            out.print(f"{what} {eid}: {reason}", style="red", highlight=False)


def show_pairs(pairs: Sequence["Pair"]) -> None:
    """Paired differences between runs (see `ibl_mtm.evaluation.compare`)."""
    columns = ["runs", "task", "difference", "95 % interval", "p (sessions)", "better in", "units"]
    table = Table(*columns, "sessions", box=None)
    for pair in pairs:
        interval = "" if pair.low is None else f"{pair.low:+.3f} to {pair.high:+.3f}"
        # Units of a session share their noise: a p over units would be too small.
        chance = pair.p_sessions
        p = "too few" if chance is None else "< 0.001" if chance < 0.001 else f"{chance:.3f}"
        table.add_row(
            f"{pair.a} - {pair.b}",
            in_text(pair.task),
            f"{pair.difference:+.3f}",
            interval,
            p,
            f"{pair.better:.0%}",
            f"{pair.n_units:,}" if pair.n_units else "",
            str(pair.n_sessions),
        )
    out.print(table)
    for pair in pairs:
        others = {"pooled": pair.pooled, "Poisson D²": pair.poisson_d2}
        known = [f"{name} {value:+.3f}" for name, value in others.items() if value is not None]
        if known:
            who = f"{in_text(pair.task)}, {pair.a} - {pair.b}"
            out.print(f"{who} by other scores: {', '.join(known)}", highlight=False)
    for pair in pairs:
        if len(pair.by_region) > 1:
            regions = list(pair.by_region.items())
            ends = regions if len(regions) <= 6 else [*regions[:3], *regions[-3:]]
            where = ", ".join(f"{name} {difference:+.3f}" for name, difference in ends)
            task = in_text(pair.task)
            out.print(f"{task}, {pair.a} - {pair.b} by region: {where}", highlight=False)


def _score(value: dict[str, Any]) -> str:
    for key in ("bits_per_spike", "accuracy", "r2"):
        if value.get(key) is not None:
            return f"{value[key]:.3f}"
    return "-"


def _remark(value: dict[str, Any]) -> str:
    own = value.get("by_model") or {}
    if "accuracy" in value:
        by_model = f", by the model {own['accuracy']:.3f}" if own else ""
        of = f" of {len(value['levels'])} classes" if "levels" in value else ""
        return (
            f"accuracy{of} (balanced {value['balanced_accuracy']:.3f}); "
            f"from raw spikes {value['raw_spikes']['accuracy']:.3f}{by_model}"
        )
    if "r2" in value:
        by_model = f", by the model {own['r2']:.3f}" if own else ""
        return f"R²; from raw spikes {value['raw_spikes']['r2']:.3f}{by_model}"
    return "bits/spike" if value else ""


def show_configurations(known: Mapping[str, str]) -> None:
    """Shipped configurations and what each is for."""
    table = _table(["configuration"])
    table.add_column("")
    for name, what in known.items():
        table.add_row(name, what)
    out.print(table, highlight=False)
    out.print(
        "ibl-mtm configs NAME shows one with all that it rests on", style="dim", highlight=False
    )


def show_checks(checks: "Sequence[Check]") -> None:
    """What `doctor` found; what is to do stands below each."""
    styles = {"ok": "green", "note": "yellow", "broken": "red"}
    table = Table(box=None, show_header=False)
    for _ in range(2):
        table.add_column(no_wrap=True)
    table.add_column()
    for check in checks:
        status = Text(check.status, style=styles[check.status])
        table.add_row(status, check.name, Text(check.found))
        if check.mend:
            table.add_row("", "", Text(check.mend, style="dim"))
    out.print(table, highlight=False)
