"""Single steps of a training, by hand: budgets, limits, lines of progress, what may change."""

import inspect
import io
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from training_runs import TINY, tiny_settings

from ibl_mtm.errors import UserError
from ibl_mtm.training import folder, run
from ibl_mtm.training.checkpoint.model_card import _scores
from ibl_mtm.training.checkpoint.pretrained import model_digest
from ibl_mtm.training.data import loader, memory, store
from ibl_mtm.training.data.store import Store
from ibl_mtm.training.loop import progress
from ibl_mtm.training.loop.progress import ProgressBar, ProgressLines
from ibl_mtm.training.published import import_report


def session(train: int, val: int):
    """One that is known by its bytes."""
    return SimpleNamespace(n_bytes={"train": train, "val": val}.__getitem__)


class TestTheBudget:
    """Two readers: of training three sessions are in use at a time, of validation three."""

    SESSIONS = tuple(session(*sizes) for sizes in ((8, 2), (5, 1), (4, 1), (3, 1), (2, 1)))

    @pytest.fixture(autouse=True)
    def _two_readers(self, monkeypatch):
        monkeypatch.setattr(store, "READERS", 2)

    def kept(self, budget):
        with closing(Store(self.SESSIONS, budget, pool=1)) as held:
            return held

    def test_all_stay_where_all_fit(self):
        held = self.kept(28)
        assert held.taken == 0
        assert held.total == 28
        assert held.kept == set(held.size)
        assert held.room == 28

    def test_else_so_many_as_fit_beside_those_in_use(self):
        """8 + 5 + 4 of training and 2 + 1 + 1 of validation are 21; the rest is for validation."""
        held = self.kept(27)
        assert held.kept == {(index, "val") for index in range(5)}
        assert held.room == 21
        assert self.kept(25).kept == {(index, "val") for index in range(3)}
        held = self.kept(24.5)
        assert held.kept == {(0, "val"), (1, "val")}
        assert held.room == 21.5
        assert self.kept(22.5).kept == {(1, "val")}  # the first is too large
        assert self.kept(22.5).room == 21.5

    def test_those_in_use_must_fit(self):
        assert self.kept(21).kept == set()
        with pytest.raises(UserError, match=r"1 sessions in use at a time take 0\.00 GB"):
            self.kept(20.9)

    def test_on_a_device_all_are_held(self):
        with closing(Store(self.SESSIONS, 1, 1, torch.device("cpu"))) as held:
            assert held.kept == set(held.size)

    def test_what_is_not_kept_is_read_ahead_where_there_is_room(self):
        held = self.kept(21)
        assert held.has_room((0, "train"))
        held.taken = 13
        assert held.has_room((0, "train"))  # to the last byte
        held.taken = 14
        assert not held.has_room((0, "train"))
        held.kept.add((0, "train"))
        assert held.has_room((0, "train"))
        busy = SimpleNamespace(done=lambda: False)
        held._reading = [busy]
        assert held.has_room((0, "train"))
        held._reading = [busy, busy]
        assert not held.has_room((0, "train"))
        held._entries[0, "train"] = object()
        assert held.has_room((0, "train"))


class TestMemory:
    @pytest.fixture
    def groups(self, tmp_path, monkeypatch):
        """Control groups a, a/b and a/b/c; this process is in the last."""
        own = tmp_path / "own"
        own.write_text("4:cpu:/other\n0::/a/b/c\n")
        root = tmp_path / "groups"
        (root / "a" / "b" / "c").mkdir(parents=True)
        files = {"/proc/self/cgroup": own, "/proc/meminfo": tmp_path / "meminfo"}
        monkeypatch.setattr(memory, "_CGROUPS", root)
        monkeypatch.setattr(memory, "Path", lambda name: files[name])
        monkeypatch.setattr(memory, "_physical_memory", lambda: 9 * 1024)
        return root / "a"

    def test_limits_of_every_group_above_count(self, groups):
        assert memory._job_limits() == []
        (groups / "memory.max").write_text("7000\n")
        (groups / "b" / "memory.max").write_text("max\n")
        (groups / "b" / "c" / "memory.max").write_text("8000\n")
        assert sorted(memory._job_limits()) == [7000, 8000]
        assert memory.available_memory() == 7000

    def test_free_memory_counts_where_it_is_told(self, groups, tmp_path):
        assert memory.available_memory() == 9 * 1024
        meminfo = "MemTotal:  99 kB\nMemAvailable:  8 kB\n"
        (tmp_path / "meminfo").write_text(meminfo)
        assert memory.available_memory() == 8 * 1024
        (tmp_path / "own").unlink()
        assert memory._job_limits() == []


class TestLinesOfProgress:
    @pytest.fixture
    def clock(self, monkeypatch):
        now = SimpleNamespace(at=1000.0)
        monkeypatch.setattr(progress.time, "perf_counter", lambda: now.at)
        return now

    def test_speed_and_time_left_by_hand(self, clock):
        """Six steps of eight trials in twelve seconds; from step 10 of 100 on."""
        stream = io.StringIO()
        lines = ProgressLines("mtm", stream)
        clock.at = 1050.0
        trainer = SimpleNamespace(
            global_step=10,
            max_steps=100,
            callback_metrics={
                "train/loss": torch.tensor(0.25),
                "val/bits_per_spike": torch.tensor(0.5),
                "val/causal": torch.tensor(-0.125),
            },
        )
        lines.on_train_start(trainer, None)
        assert stream.getvalue().endswith("] training of mtm begins from step 10: 100 steps\n")
        for _ in range(6):
            clock.at += 2
            trainer.global_step += 1
            lines.on_train_batch_end(trainer, None, None, [0] * 8, 0)
        lines.on_validation_end(trainer, None)
        (_, line) = stream.getvalue().splitlines()
        told = "step 16 of 100: loss 0.250, val 0.500 (causal -0.125); 4 trials/s, 2 min 48 s left"
        assert line.partition("] ")[2] == told
        trainer.callback_metrics = {}
        lines.on_validation_end(trainer, None)
        assert "step 16 of 100: ; 4 trials/s" in stream.getvalue().splitlines()[-1]

    def test_after_five_minutes_of_silence_a_line_comes(self, clock):
        stream = io.StringIO()
        lines = ProgressLines("mtm", stream)
        trainer = SimpleNamespace(global_step=1, max_steps=9, callback_metrics={})
        for seconds, n_lines in ((300, 0), (0.5, 1), (299, 1), (2, 2)):
            clock.at += seconds
            lines.on_train_batch_end(trainer, None, None, [0], 0)
            assert len(stream.getvalue().splitlines()) == n_lines
        lines.on_train_start(SimpleNamespace(global_step=0, max_steps=9), None)
        assert stream.getvalue().splitlines()[-1].endswith("] training of mtm begins: 9 steps")

    @pytest.mark.parametrize(
        ("seconds", "told"),
        [(0, "0 min 0 s"), (59.4, "0 min 59 s"), (60, "1 min 0 s"), (3599, "59 min 59 s"),
         (3600, "1 h 0 min"), (7980, "2 h 13 min")],
    )  # fmt: skip
    def test_durations(self, seconds, told):
        assert progress._duration(seconds) == told

    def test_a_bar_is_brought_up_to_date_every_ten_steps_and_at_the_end(self, clock):
        from rich.console import Console

        bar = ProgressBar("mtm", Console(file=io.StringIO(), width=100))
        trainer = SimpleNamespace(global_step=0, max_steps=25, callback_metrics={})
        shown = []
        bar.progress.update = lambda task, **fields: shown.append(fields)  # type: ignore[method-assign]
        for _ in range(25):
            clock.at += 0.5
            trainer.global_step += 1
            bar.on_train_batch_end(trainer, None, None, [0] * 3, 0)
        assert [fields["completed"] for fields in shown] == [10, 20, 25]
        assert {fields["speed"] for fields in shown} == {"6 trials/s"}

    @pytest.mark.parametrize("end", ["on_train_end", "on_exception"])
    def test_a_bar_gives_the_terminal_back_however_a_training_ends(self, end):
        from rich.console import Console

        console = Console(file=io.StringIO(), width=100, force_terminal=True)
        bar = ProgressBar("mtm", console)
        bar.on_train_start(SimpleNamespace(global_step=0, max_steps=25), None)
        assert bar.progress.live.is_started
        getattr(bar, end)(None, None, *([ValueError()] if end == "on_exception" else []))
        assert not bar.progress.live.is_started
        assert console.file.getvalue().endswith("\x1b[?25h")  # the cursor is seen again

    @pytest.mark.parametrize(("width", "narrow"), [(119, True), (120, False)])
    def test_a_narrow_terminal_has_no_bar(self, width, narrow):
        from rich.console import Console

        bar = ProgressBar("mtm", Console(file=io.StringIO(), width=width))
        assert bar.narrow == narrow
        assert len(bar.progress.columns) == (4 if narrow else 6)


class TestWhatMayChange:
    """Between a run's own settings and those that it is resumed with."""

    def differs(self, monkeypatch, before, now):
        monkeypatch.setattr(folder, "read_settings", lambda path, kind: tiny_settings(**before))
        monkeypatch.setattr(folder.pd, "read_parquet", lambda path: folder._unit_table([]))
        monkeypatch.setattr(folder, "_unit_table", lambda sessions: UNITS)
        folder.check_unchanged(Path("run"), tiny_settings(**now), [])

    @pytest.fixture(autouse=True)
    def _no_trials(self, monkeypatch):
        monkeypatch.setattr(folder, "read_deals", lambda run: {}, raising=False)

    @pytest.mark.parametrize(
        ("now", "told"),
        [
            ({"steps": 13}, "steps=12, not 13.*to train on, start a new run"),
            ({"seed": 1}, "seed=0, not 1; --resume goes on with the run's own settings$"),
            ({"batch_size": 9}, "batch_size=8, not 9"),
            ({"data": {"min_units_per_region": 3}}, "data.min_units_per_region=2, not 3"),
            ({"steps": None, "epochs": 5}, "epochs=.*, not 5.*start a new run"),
        ],
    )
    def test_what_decides_the_outcome_may_not(self, monkeypatch, now, told):
        with pytest.raises(UserError, match=told):
            self.differs(monkeypatch, {}, now)

    @pytest.mark.parametrize(
        "now",
        [
            {},
            {"epochs": 7},  # which steps overrule
            {"data": {"min_units_per_region": 2, "memory_gb": 1.5}},
            {"data": {"min_units_per_region": 2, "device_cache": "off"}},
        ],
    )
    def test_where_and_how_it_is_computed_may(self, monkeypatch, now):
        self.differs(monkeypatch, {}, now)

    @pytest.mark.parametrize(
        ("now", "told"),
        [
            ("ea eb fc", None),
            ("ea eb", "units of session f"),
            ("ea eb fc ed", "units of session e"),
            ("ea eb fc gd", "units of session g"),
            ("ea fb fc", "units of session e"),
            ("eb ea fc", "units of session all, in another order"),
        ],
    )
    def test_nor_units_of_which_the_first_session_that_differs_is_named(
        self, monkeypatch, now, told
    ):
        def table(rows):
            return folder.pd.DataFrame(map(tuple, rows.split()), columns=["eid", "unit"])

        monkeypatch.setattr(folder, "read_settings", lambda path, kind: tiny_settings())
        monkeypatch.setattr(folder.pd, "read_parquet", lambda path: table("ea eb fc"))
        monkeypatch.setattr(folder, "_unit_table", lambda sessions: table(now))
        if told is None:
            folder.check_unchanged(Path("run"), tiny_settings(), [])
        else:
            with pytest.raises(UserError, match=rf"run was begun with \({told}\); --resume needs"):
                folder.check_unchanged(Path("run"), tiny_settings(), [])


UNITS = folder.pd.DataFrame({"eid": ["e"], "unit": ["u"]})


@pytest.mark.parametrize(("n_sessions", "of"), [(1, " over units"), (2, "")])
def test_scores_on_a_card(n_sessions, of):
    values = {"bits_per_spike": 0.1234, "sem": 0.0126, "n_sessions": n_sessions, "psth_r2": None}
    table = _scores(
        {"tasks": {"co_smoothing": values, "choice": {"accuracy": 0.75}, "block": None}}
    )
    rows = table.splitlines()
    assert len(rows) == 2 + 2
    assert f"| 0.123 ± 0.013{of} | bits/spike |" in rows[2]
    assert rows[3].endswith("| 0.750 | accuracy |")
    assert _scores(None) == "Not evaluated."


def test_what_train_does_unless_told_otherwise():
    given = {name: p.default for name, p in inspect.signature(run.train).parameters.items()}
    expected = {"init": None, "resume": False, "overwrite": False, "progress": True, "refit": True}
    assert given.items() >= expected.items()
    given = {name: p.default for name, p in inspect.signature(run.fit).parameters.items()}
    assert given.items() >= {"checkpoint": None, "progress": True, "refit": True}.items()


@pytest.mark.parametrize("refit", [True, False])
def test_dynamics_are_fitted_to_the_validation_trials_too_unless_told_otherwise(monkeypatch, refit):
    done = []
    monkeypatch.setattr(run, "load_model", lambda path: f"model of {path}")
    monkeypatch.setattr(
        run, "fit_systems", lambda model, sessions, splits, say, **k: done.append((splits, k))
    )
    monkeypatch.setattr(run, "choose_shares", lambda *a: done.append("shares"))
    monkeypatch.setattr(run, "fit_encoding", lambda *a, **k: done.append(k))
    monkeypatch.setattr(run, "save_model", lambda *a: done.append(a))
    chosen = tiny_settings(model={**TINY["model"], "dynamics": 3})
    run._fit_last(Path("r"), [], chosen, print, refit)
    again = [(("train", "val"), {})] if refit else []
    saved = {"refit": refit}, ("model of r", Path("r"))
    assert done == [(("train",), {}), "shares", *again, *saved]


@pytest.mark.parametrize(
    ("kind", "free", "room"), [("cuda", 20, True), ("cuda", 19, False), ("cpu", 99, False)]
)
def test_counts_are_held_on_a_gpu_of_which_they_take_up_to_half(monkeypatch, kind, free, room):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (free, 1000))
    assert loader._has_room(torch.device(kind), [session(4, 1), session(3, 2)]) == room


@pytest.mark.parametrize(
    ("has_cache", "scores", "told"),
    [
        (True, {"a": 0.25, "b": -0.125}, []),
        (True, {"a": 0.25}, ["1 session not scored: no validation trials in the cache"]),
        (False, {}, ["WARNING: nothing was scored"]),
    ],
)
def test_what_an_imported_run_says_of_its_sessions(has_cache, scores, told):
    report = import_report.ImportReport(
        run="r", file="f.pt", sha256="0", sessions=["a", "b"], left_out=["c"],
        schemes=["neuron"], n_units=7, n_parameters=12345,
        scores=scores, correlations={"a": 0.5, "b": 0.25}, below_mean=["b"], unlike=["b"],
    )  # fmt: skip
    first, *lines, last = report.lines(SimpleNamespace(eids=["a", "b", "c"]), has_cache)
    assert first == "f.pt: 2 sessions of 3, 7 units, 12,345 parameters"
    assert last.startswith("which trials trained it stands in no file")
    of = {"a": ["session a: +0.250 bits/spike"],
          "b": ["session b: -0.125 bits/spike",
                "WARNING: session b scores below the units' means and predicts other"]}  # fmt: skip
    expected = [line for eid in scores for line in of[eid]] + told
    assert len(lines) == len(expected)
    assert all(line.startswith(start) for line, start in zip(lines, expected, strict=True))


def test_a_digest_of_weights_is_the_beginning_of_their_sha256(tmp_path):
    (tmp_path / "model.safetensors").write_bytes(b"abc")  # FIPS 180's example
    assert model_digest(tmp_path) == "ba7816bf8f01cfea"
