"""Predictions of a model: what it may not see, what is there already, and what is refused."""

import json
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from safetensors.numpy import load

from ibl_mtm.benchmark.check import check_submission
from ibl_mtm.benchmark.data import BenchmarkData
from ibl_mtm.benchmark.predict.adaptation import (
    WINDOWS,
    adaptation_data,
    bins_before,
    windows_to_adapt,
)
from ibl_mtm.benchmark.predict.baselines import fit_activity
from ibl_mtm.benchmark.predict.decoded import predict_behaviour
from ibl_mtm.benchmark.predict.requests import Request, adapted, read_seeds, run_benchmark
from ibl_mtm.benchmark.score import score_submissions
from ibl_mtm.benchmark.submission import Place, open_submission
from ibl_mtm.benchmark.tasks import TASKS, Suite, choose_tasks
from ibl_mtm.benchmark.truth import trial_truth
from ibl_mtm.brainsets.layout import file_of
from ibl_mtm.cache.cache import open_cache
from ibl_mtm.config.dataset import Dataset
from ibl_mtm.errors import UserError
from ibl_mtm.ingest.run import ingest
from ibl_mtm.sessions.trial_format import TrialFormat
from ibl_mtm.training.checkpoint.pretrained import load_model, model_digest
from ibl_mtm.training.run import train
from ibl_mtm.training.settings import read_run_settings

QUICK = ("steps=3", "validate_every=3", "model.dynamics=3", "model.width=16", "model.mlp=16",
         "model.heads=2", "average=0")  # fmt: skip


@pytest.fixture(scope="module")
def data(wide_map: Path) -> BenchmarkData:
    return BenchmarkData(wide_map)


def tensors_of(file: Path) -> dict[str, np.ndarray]:
    return load(file.read_bytes())


def other_test(data: BenchmarkData, folder: Path, eid: str) -> BenchmarkData:
    """The same files with other spikes and behaviours in the test domains."""
    rng = np.random.default_rng(0)
    for build in ("all_units", "selected_units"):
        target = file_of(folder, build, "eval", eid)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file_of(data.root, build, "eval", eid), target)
        scope = "ts1" if build == "all_units" else "ts2"
        with h5py.File(target, "r+") as file:
            spans = np.stack([file[f"{scope}_test_domain/{k}"][()] for k in ("start", "end")], 1)
            times = file["spikes/timestamps"][()]
            for start, end in spans:
                inside = (times >= start) & (times < end)
                times[inside] = np.sort(rng.uniform(start, end, inside.sum()))
                file["spikes/unit_index"][inside] = rng.integers(
                    0, len(file["units/id"]), inside.sum()
                )
                for group in ("whisker", "paws", "licks", "wheel"):
                    if group not in file:
                        continue
                    first = file[f"{group}/domain/start"][0]
                    n = next(len(v) for v in file[group].values() if isinstance(v, h5py.Dataset))
                    at = first + np.arange(n) / 50.0
                    for value in file[group].values():
                        if isinstance(value, h5py.Dataset) and value.dtype.kind == "f":
                            values = value[()]
                            rows = (at >= start) & (at < end)
                            values[rows] = rng.permutation(values[rows]) * 3 + 1
                            value[...] = values
                for name in ("choice", "reward", "stimulus_contrast"):
                    table = file[f"task_aligned_intervals/{name}"]
                    rows = table["start"][()] >= start
                    rows &= table["end"][()] <= end
                    values = table[name][()]
                    values[rows] = 0
                    table[name][...] = values
            file["spikes/timestamps"][...] = times
    return BenchmarkData(folder)


@pytest.mark.slow
@pytest.mark.parametrize("suite", ["ts1", "ts2"])
def test_what_is_in_the_test_domain_reaches_no_weight(
    data: BenchmarkData, tmp_path: Path, suite: Suite
) -> None:
    eid = data.recordings[0]
    others = other_test(data, tmp_path / "other", eid)
    found = []
    for at, source in enumerate((data, others)):
        request = Request(source, tmp_path / str(at), "x", [43], overrides=QUICK)
        with source.open(suite, eid) as recording:
            ds, _ = adaptation_data(recording, suite)
            model = adapted(request, recording, suite, 43, lambda line: None)
            found.append((ds, model, recording.spikes().times))
            run = request.work / suite / eid / "seed_43" / "run"
            found[-1] = (*found[-1], model_digest(run))
    (ds_a, model_a, times_a, digest_a), (ds_b, model_b, times_b, digest_b) = found
    assert not np.array_equal(times_a, times_b)
    assert ds_a.drop_attrs().identical(ds_b.drop_attrs())
    assert digest_a == digest_b
    for name, tensor in model_a.state_dict().items():
        assert torch.equal(tensor, model_b.state_dict()[name]), name


def test_what_is_in_the_test_domain_reaches_no_decoder(data: BenchmarkData, tmp_path: Path) -> None:
    """Behaviour in the test domain is not looked at: predictions follow from spikes alone."""
    eid = data.recordings[0]
    others = other_test(data, tmp_path, eid)
    for build in ("all_units",):  # the spikes as they were
        with (
            h5py.File(file_of(data.root, build, "eval", eid)) as before,
            h5py.File(file_of(tmp_path, build, "eval", eid), "r+") as after,
        ):
            for name in ("timestamps", "unit_index"):
                after[f"spikes/{name}"][...] = before[f"spikes/{name}"][()]
    names = ("ts1-choice", "ts1-wheel_speed", "ts1-licking_rate")
    for name, low_rank in [(name, low_rank) for name in names for low_rank in (False, True)]:
        with data.open("ts1", eid) as recording:
            expected = predict_behaviour(recording, TASKS[name], low_rank=low_rank)
            truth = trial_truth(recording, TASKS[name], "test")
        with others.open("ts1", eid) as recording:
            found = predict_behaviour(recording, TASKS[name], low_rank=low_rank)
            changed = trial_truth(recording, TASKS[name], "test")
        assert not np.array_equal(truth.values, changed.values)
        assert found.chosen == expected.chosen
        np.testing.assert_array_equal(found.tensors["predictions"], expected.tensors["predictions"])


def test_baselines_are_fitted_outside_of_test(data: BenchmarkData, tmp_path: Path) -> None:
    eid = data.recordings[0]
    others = other_test(data, tmp_path, eid)
    for name in ("ts2-co_smoothing", "ts2-forecasting"):
        fits = []
        for source in (data, others):
            with source.open("ts2", eid) as recording:
                fits.append(fit_activity(recording, TASKS[name]))
        np.testing.assert_array_equal(fits[0].weights, fits[1].weights)
        np.testing.assert_array_equal(fits[0].offset, fits[1].offset)


def test_windows_to_adapt_to_lie_in_trials_of_their_domain(data: BenchmarkData) -> None:
    eid = data.recordings[0]
    with data.open("ts2", eid) as recording:
        trials, spikes = recording.trial_domains, recording.spikes()
        for split in ("train", "val"):
            domain = recording.domain(f"ts2_{split}")
            starts = windows_to_adapt(recording, "ts2", split)
            assert len(starts) > 20
            for start in starts:
                assert any(a <= start and start + 1.0 <= b for a, b in domain)
                assert any(a - 1e-9 <= start and start + 1.0 <= b + 1e-9 for a, b in trials)
        longer = windows_to_adapt(recording, "ts2", "train", n_before=50)
        assert 0 < len(longer) < len(windows_to_adapt(recording, "ts2", "train"))
        ds, _ = adaptation_data(recording, "ts2", TrialFormat(100, 0.02, "contiguous", -0.5))
        assert set(ds.split.values) == {"train", "val"}
        at = 7  # the model's window begins a second before the one that is scored
        start = float(ds.window_start[at])
        mine = (spikes.times >= start) & (spikes.times < start + 2.0)
        assert int(ds.spikes[at].sum()) == mine.sum()


@pytest.mark.slow
def test_a_run_from_nothing_to_what_the_benchmark_takes(
    data: BenchmarkData, tmp_path: Path
) -> None:
    tasks = choose_tasks(["ts1", "ts2"], ["choice", "wheel_speed", "forecasting"])
    eid = data.recordings[1]
    said: list[str] = []
    request = Request(data, tmp_path, "quick", [43, 44, 45], tasks, [eid[:8]], overrides=QUICK)
    report = run_benchmark(request, said.append)
    assert report.failed == {}
    assert len(report.written) == 9
    findings = check_submission(tmp_path, data).findings
    assert {finding.code for finding in findings} == {"E104"}  # of the other recording
    scores = score_submissions(tmp_path, data)
    assert scores.failed == {}
    assert np.isfinite(scores.table["score"]).all()
    # Seeds are models of their own.
    with open_submission(tmp_path) as found:
        forecasts = [e.tensors()["predictions"] for e in found["quick"] if "forecast" in e.name]
    assert not np.array_equal(forecasts[0], forecasts[1])
    # Again: all of it is there. One file lost: it alone is made anew, from the same model.
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.safetensors")}
    report = run_benchmark(request)
    assert (len(report.written), len(report.skipped)) == (0, 9)
    lost = tmp_path / Place("quick", "ts2-forecasting", eid, 44).path
    content = tensors_of(lost)
    lost.unlink()
    assert run_benchmark(request).written == [lost.relative_to(tmp_path).as_posix()]
    for name, tensor in tensors_of(lost).items():
        np.testing.assert_array_equal(tensor, content[name])
    assert all(p.stat().st_mtime_ns == t for p, t in before.items() if p != lost)
    # Other settings are another submission.
    other = Request(data, tmp_path, "quick", [43], tasks, overrides=(*QUICK, "steps=4"))
    with pytest.raises(UserError, match="begun with other settings"):
        run_benchmark(other)


def test_what_cannot_become_a_submission_is_refused(data: BenchmarkData, tmp_path: Path) -> None:
    def request(**more: object) -> Request:
        fields = {"data": data, "out": tmp_path, "label": "x", "seeds": [43], "overrides": QUICK}
        return Request(**(fields | more))  # type: ignore[arg-type]

    (tmp_path / "other" / "ts1-choice").mkdir(parents=True)
    for wrong, match in (
        ({"label": "a b"}, "make a label"),
        ({"recordings": ["zzz"]}, "no such recording"),
        ({"out": tmp_path / "other"}, "folder of label 'other'"),
        ({"baseline": "magic"}, "known: linear, reduced_rank"),
        ({"init": tmp_path / "nowhere"}, "no trained model"),
    ):
        with pytest.raises(UserError, match=match):
            run_benchmark(request(**wrong))
    assert not (tmp_path / ".work").exists()
    with pytest.raises(UserError, match="holds none of"):
        BenchmarkData(tmp_path)
    for text in ("43,45", "x", "", "45-43"):
        with pytest.raises(UserError, match="--seeds"):
            read_seeds(text)
    assert read_seeds("43-45") == read_seeds("43, 44,45") == [43, 44, 45]


@pytest.mark.slow
def test_a_model_that_knows_an_evaluated_animal_is_refused(
    data: BenchmarkData, tmp_path: Path
) -> None:
    first = Request(data, tmp_path, "x", [43], overrides=QUICK)
    eid = data.recordings[0]
    with data.open("ts2", eid) as recording:
        adapted(first, recording, "ts2", 43, lambda line: None)
    run = first.work / "ts2" / eid / "seed_43" / "run"
    with pytest.raises(UserError, match=f"trained on session {eid}"):
        run_benchmark(Request(data, tmp_path / "y", "y", [43], init=run, overrides=QUICK))


def test_windows_of_a_model_that_do_not_fit() -> None:
    assert bins_before(WINDOWS) == 0
    assert bins_before(TrialFormat(100, 0.02, "stimOn_times", -0.5)) == 50
    for wrong in (TrialFormat(50, 0.01, "contiguous", 0.0), TrialFormat(40, 0.02, "x", 0.0)):
        with pytest.raises(UserError, match="pre-train on such windows"):
            bins_before(wrong)


def test_one_damaged_recording_fails_alone(data: BenchmarkData, tmp_path: Path) -> None:
    root = tmp_path / "data"
    shutil.copytree(data.root, root)
    broken = data.recordings[0]
    file_of(root, "all_units", "eval", broken).write_bytes(b"no file")
    tasks = choose_tasks(["ts1"], ["reward"])
    request = Request(BenchmarkData(root), tmp_path, "l", [1], tasks, baseline="linear")
    report = run_benchmark(request)
    assert list(report.failed) == [f"l/ts1-reward/{broken}/seed_1.safetensors"]
    assert "fetch it anew" in next(iter(report.failed.values()))
    assert len(report.written) == len(data.recordings) - 1


@pytest.mark.slow
def test_a_pretrained_model_is_adapted_and_its_rows_tell_regions(
    data: BenchmarkData, tmp_path: Path
) -> None:
    """Its body stands still for TS3, so that rows of all sessions can be compared."""
    source = {"kind": "brainsets", "path": str(data.root), "build": "selected_units"}
    dataset = Dataset.model_validate(
        {
            "source": source | {"regime": "pretrain"},
            "align": {"contiguous": 1.0, "bin": 0.02},
            "split": {"kind": "file"},
        }
    )
    ingest(dataset, "pre", tmp_path / "pre.zarr", workers=1)
    run = tmp_path / "pretrained"
    settings = read_run_settings("benchmark", QUICK)
    train(settings, open_cache(str(tmp_path / "pre.zarr")), run, progress=False)
    tasks = choose_tasks(["ts2", "ts3"], ["forecasting", "unit_cosmos"])
    request = Request(data, tmp_path / "out", "pre", [43], tasks, init=run, overrides=QUICK)
    report = run_benchmark(request)
    assert report.failed == {}
    names = {Path(path).parts[0] for path in report.written}
    assert names == {"pre", "pre_multi"}
    codes = {f.code for f in check_submission(tmp_path / "out", data).findings}
    assert codes == {"E101"}  # a single seed
    scores = score_submissions(tmp_path / "out", data)
    assert scores.failed == {}
    known = load_model(run)
    frozen, tuned = (
        load_model(request.work / suite / data.recordings[0] / "seed_43" / "run")
        for suite in ("ts3", "ts2")
    )
    body = [name for name, _ in known.blocks.named_parameters()]
    for name in body:
        before = known.blocks.state_dict()[name]
        assert torch.equal(before, frozen.blocks.state_dict()[name]), name
    assert any(
        not torch.equal(known.blocks.state_dict()[name], tuned.blocks.state_dict()[name])
        for name in body
    )
    chosen = json.loads((request.work / "ts3_seed_43.json").read_text())
    assert chosen["classifier"] in ("linear", "network")
