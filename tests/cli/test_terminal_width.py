"""What is printed can be read in a narrow terminal, in a pipe, and whatever names it holds."""

import io
import json
import sys
from pathlib import Path

import pytest
from rich.console import Console
from synthetic import make_regions, make_session

from ibl_mtm.cache.cache import open_cache
from ibl_mtm.cache.store import create_cache, write_session
from ibl_mtm.cli import main, terminal
from ibl_mtm.errors import UserError
from ibl_mtm.ingest.outcome import IngestReport, Outcome
from ibl_mtm.training.run import TrainReport

REASON = "spikes.times.npy: [/x] 1000 bytes are missing of the 80,128 that its header promises"


@pytest.fixture
def screen(monkeypatch):
    """A terminal of some width; what stands in it."""

    def screen(width):
        console = Console(file=io.StringIO(), width=width, markup=terminal.out._markup)
        monkeypatch.setattr(terminal, "out", console)
        return console.file

    return screen


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    root = tmp_path_factory.mktemp("width") / "cache.zarr"
    create_cache(root)
    for seed, n_units, subject in ((1, 15, "KS[014]"), (2, 20, "NYU-12"), (3, 20, "NYU-12")):
        ds = make_session(n_units=n_units, n_trials=30, n_bins=20, seed=seed, subject=subject)
        write_session(root, ds, make_regions())
    return open_cache(root)


@pytest.mark.parametrize("width", [40, 80, 100, 400])
def test_a_session_takes_one_line_with_whole_headings(cache, screen, width):
    """Ten lines a session, `uni ts` for a heading, or ids alone."""
    shown = screen(width)
    terminal.show_sessions(cache)
    head, *rows = [line for line in shown.getvalue().splitlines() if line.strip()]
    assert all(len(line.rstrip()) <= width for line in (head, *rows[: len(cache)]))
    names = head.split()
    assert set(names) <= {"session", *cache.sessions.columns}  # as `--where` takes them
    assert names[:2] == ["session", "subject"]
    for eid, row in zip(cache, rows, strict=False):
        assert cache.find(row.split()[0]) == [eid]
        assert cache.sessions.loc[eid, "subject"] in row
        if "n_units" in names:
            assert row.split()[names.index("n_units")] == str(cache.sessions.loc[eid, "n_units"])
    if width >= 80:
        assert {"n_units", "n_good_units", "n_trials"} <= set(names)
    if "regions" not in names:
        assert "not shown" in shown.getvalue()


@pytest.mark.parametrize("width", [40, 80, 400])
def test_status_and_reason_of_an_ingest_can_be_read(screen, width):
    """At 80 columns there were `fail…` and a column of five letters."""
    eids = [f"{n}a3c5f0e-0000-4000-8000-000000000000" for n in range(2)]
    outcomes = [Outcome("ingested", None, 15, 30, 3.1), Outcome("failed", REASON)]
    shown = screen(width)
    terminal.show_ingest(IngestReport(Path("c[1].zarr"), dict(zip(eids, outcomes, strict=True))))
    text = shown.getvalue()
    assert REASON in " ".join(text.split())
    for eid, status in zip(eids, ("ingested", "failed"), strict=True):
        assert any(eid in line and status in line for line in text.splitlines())
    assert "c[1].zarr: 1 ingested, 1 failed" in text


@pytest.mark.parametrize("width", [80, 400])
def test_what_several_sessions_lack_is_told_once(screen, width):
    """What one alone lacks stands beside it, and nowhere else."""
    notes = [("no licks", "no [pupil]"), ("no licks", "no licks", "no wheel"), ()]
    outcomes = [Outcome("ingested", None, 15, 30, 3.1, notes=own) for own in notes]
    shown = screen(width)
    terminal.show_ingest(IngestReport(Path("c.zarr"), dict(zip("abc", outcomes, strict=True))))
    text = shown.getvalue()
    assert "\n2 sessions: no licks\n" in text
    assert [text.count(what) for what in ("no licks", "no [pupil]", "no wheel")] == [1, 1, 1]
    assert text.count(" sessions: ") == 1


def test_names_are_printed_as_they_are(screen, cache, tmp_path):
    """`mtm[lr]` was read as a style and printed as `mtm`; `[/x]` ended in an error."""
    shown = screen(200)
    terminal.show_training(TrainReport("runs/mtm[lr]", 4, 2, {"neuron": 0.1}, 1.0))
    scores = {
        "tasks": {"co_smoothing": {"bits_per_spike": 0.1}},
        "skipped": {"a[/b]": {"t": "[x]"}},
    }
    terminal.show_scores([{"run": "runs/mtm[lr]"} | scores, {"run": "runs/[/b]"} | scores])
    terminal.show_sessions(cache)
    text = shown.getvalue()
    for name in ("runs/mtm[lr]", " mtm[lr] ", "[/b]", "a[/b]: [x]", "KS[014]"):
        assert name in text


@pytest.mark.parametrize("width", [80, 200])
def test_a_pipe_breaks_no_line(cache, monkeypatch, capsys, width):
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setattr(
        sys, "argv", ["ibl-mtm", "sessions", str(cache.path), "--session", "x" * 90]
    )
    with pytest.raises(SystemExit):
        main()
    assert len(capsys.readouterr().err.strip().splitlines()) == 1
    assert terminal.err.width > 1000


def test_sessions_are_found_by_what_tables_show(cache):
    of = cache.sessions.reset_index().groupby("subject")["eid"].apply(list)
    (first,), (second, third) = of["KS[014]"], of["NYU-12"]
    assert cache.find(second) == cache.find(second[:8]) == [second]
    assert cache.find("KS[014]") == [first]
    assert cache.find("NYU-12") == [second, third]
    assert set(map(len, cache.short_names.values())) == {8}
    for name in ("none", "ab", ""):
        with pytest.raises(UserError, match=f"no session '{name}'"):
            cache.find(name)


def test_a_card_is_shown_for_a_short_id(cache, monkeypatch, capsys):
    first = next(iter(cache))

    def run(name):
        words = ["ibl-mtm", "sessions", str(cache.path), "--session", name, "--json"]
        monkeypatch.setattr(sys, "argv", words)
        with pytest.raises(SystemExit) as stop:
            main()
        return stop.value.code, capsys.readouterr()

    code, shown = run(first[:8])
    assert (code or 0, json.loads(shown.out)["eid"]) == (0, first)
    code, shown = run("NYU-12")
    assert code == 2
    assert "NYU-12 has 2 sessions" in shown.err
