"""Single steps of a request, without data or training: what is made, kept, told and refused."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from made_up_requests import EID, request_of
from safetensors import safe_open

from ibl_mtm.benchmark.predict import adaptation, requests
from ibl_mtm.benchmark.predict.adaptation import WINDOWS, adapt
from ibl_mtm.benchmark.predict.requests import Report, Request, adapted, read_seeds
from ibl_mtm.benchmark.tasks import TASKS
from ibl_mtm.errors import SessionError, UserError


@pytest.mark.parametrize(
    ("text", "seeds"), [("43", [43]), ("43-45", [43, 44, 45]), (" 45,43 , 44", [43, 44, 45])]
)
def test_seeds(text: str, seeds: list[int]) -> None:
    assert read_seeds(text) == seeds


@pytest.mark.parametrize("text", ["", "a", "43,45", "45-43", "43-", "1,,2"])
def test_seeds_that_the_benchmark_refuses(text: str) -> None:
    with pytest.raises(UserError, match="--seeds"):
        read_seeds(text)


def test_a_model_is_adapted_once_and_then_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []
    monkeypatch.setattr(requests, "adapt", lambda work, *rest: asked.append((work, *rest)) or work)
    monkeypatch.setattr(requests, "model_digest", lambda run: f"digest of {run.name}")
    monkeypatch.setattr(requests, "load_model", lambda run: run)
    request, told = request_of(tmp_path, EID), list[str]()
    recording: Any = SimpleNamespace(eid=EID)
    work = tmp_path / ".work" / "l" / "ts1" / EID / "seed_44"
    for _ in range(2):
        assert adapted(request, recording, "ts1", 44, told.append) == work / "run"
    ((folder, given, suite, settings, init, format_),) = asked
    assert (folder, given, suite, init, format_) == (work, recording, "ts1", None, WINDOWS)
    assert settings.seed == 44
    assert told == [f"ts1 {EID}, seed 44: adapting"]
    written = (work / "adapted.json").read_text()
    assert json.loads(written) == {"weights": "digest of seed_44"}
    assert written.splitlines()[1].startswith(' "')


@pytest.mark.parametrize("begun", [True, False])
def test_an_adaptation_goes_on_where_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, begun: bool
) -> None:
    steps: list[Any] = []
    for name in ("create_cache", "write_session"):
        monkeypatch.setattr(adaptation, name, lambda *a, name=name: steps.append((name, *a)))
    monkeypatch.setattr(adaptation, "adaptation_data", lambda *a: ("ds", a))
    monkeypatch.setattr(adaptation, "open_cache", lambda path: f"open {path}")
    monkeypatch.setattr(adaptation, "train", lambda *a, **k: steps.append((a, k)))
    work = tmp_path / "w"
    if begun:
        (work / "run" / "checkpoints").mkdir(parents=True)
        (work / "run" / "checkpoints" / "last.ckpt").touch()
    recording, settings, say = object(), object(), print
    assert adapt(work, recording, "ts2", settings, "init", say=say) == work / "run"  # type: ignore[arg-type]
    cache = work / "cache.zarr"
    assert steps[:2] == [
        ("create_cache", cache),
        ("write_session", cache, "ds", (recording, "ts2", WINDOWS)),
    ]
    ((given, options),) = steps[2:]
    assert given == (settings, f"open {cache}", work / "run")
    assert options == {
        "init": "init",
        "resume": begun,
        "overwrite": True,
        "progress": False,
        "refit": False,
        "say": say,
    }


def test_the_windows_are_those_of_the_model_to_start_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model: Any = SimpleNamespace(scope=SimpleNamespace(trial_format="its own", sessions=("s", "t")))
    monkeypatch.setattr(requests, "find_model", lambda init: f"found {init}")
    monkeypatch.setattr(requests, "load_model", lambda init: model)
    request = request_of(tmp_path, EID, init="x")
    assert request.pretrained is model
    assert request.format == "its own"
    assert request_of(tmp_path, EID).format == WINDOWS
    assert request_of(tmp_path, EID).pretrained is None
    for found, told in (({"t": "why"}, "session t: why.*without it$"),
                        ({"s": "1", "t": "2"}, "session s: 1.*without these 2$")):  # fmt: skip
        monkeypatch.setattr(requests, "evaluated_among", lambda known, asked, found=found: found)
        with pytest.raises(UserError, match=told):
            requests._check_animals(request, model)
    seen: list[Any] = []
    monkeypatch.setattr(
        requests, "evaluated_among", lambda known, asked: seen.append((known, asked)) or {}
    )
    requests._check_animals(request, model)
    assert seen == [({"s": "", "t": ""}, {EID: "eval"})]


@pytest.mark.parametrize("pretrained", [True, False])
def test_what_a_model_starts_from_is_looked_at_before_anything_is_computed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pretrained: bool
) -> None:
    looked: list[str] = []
    model: Any = SimpleNamespace(scope=SimpleNamespace(trial_format=WINDOWS))
    monkeypatch.setattr(requests, "find_model", lambda init: init)
    monkeypatch.setattr(requests, "load_model", lambda init: model)
    monkeypatch.setattr(requests, "model_digest", lambda run: "digest")
    monkeypatch.setattr(requests, "bins_before", lambda format_: looked.append("windows"))
    monkeypatch.setattr(requests, "_check_animals", lambda r, m: looked.append("animals"))
    settings = SimpleNamespace(model_dump=lambda **k: {"k": sorted(k["exclude"])})
    monkeypatch.setattr(Request, "settings", lambda self, suite, seed: settings)
    request = request_of(tmp_path, EID, init="x" if pretrained else None)
    for more, told in (({}, None), ({"end_to_end": True}, "begun with other end_to_end")):
        again = request_of(tmp_path, EID, init=request.init, **more)
        if told is None:
            requests._check(again)
        else:
            with pytest.raises(UserError, match=told):
                requests._check(again)
    assert looked == ["windows", "animals"] * 2 * pretrained
    asked = json.loads((request.work / "request.json").read_text())
    digest = "digest" if pretrained else None
    assert asked == {"baseline": None, "init": digest, "settings": {"k": ["seed", "trainer"]}}


class TestOneRecording:
    TASKS = (TASKS["ts1-choice"], TASKS["ts1-reward"])

    def predict(
        self, out: Path, monkeypatch: pytest.MonkeyPatch, fails: str = "", **more: Any
    ) -> tuple[Report, list[Any], list[str]]:
        """Predict with seed 43; `fails` at a task, or at the model."""
        calls, told, report = list[Any](), list[str](), Report()

        def write(request: Request, recording: Any, model: Any, places: list[Any]) -> None:
            if fails == places[0].task:
                raise SessionError(EID, "no such trials")
            calls.append((model, [place.path for place in places]))

        def model_of(*arguments: Any) -> str:
            if fails == "model":
                raise SessionError(EID, "no units")
            assert arguments[2:4] == ("ts1", 43)  # a model is of one seed, and called with it alone
            return "model"

        monkeypatch.setattr(requests, "_write_behaviour", write)
        monkeypatch.setattr(requests, "adapted", model_of)
        request = request_of(out, EID, **more)
        requests._predict_recording(
            request, "ts1", list(self.TASKS), EID, [43, 44], report, told.append
        )
        return report, calls, told

    def path(self, task: int, seed: int) -> str:
        return f"l/{self.TASKS[task].name}/{EID}/seed_{seed}.safetensors"

    def test_what_is_there_is_passed_over(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for path in (self.path(0, 43), self.path(0, 44), self.path(1, 44)):
            (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / path).touch()
        report, calls, told = self.predict(tmp_path, monkeypatch)
        assert calls == [("model", [self.path(1, 43)])]
        assert report.written == [self.path(1, 43)]
        assert report.skipped == [self.path(0, 43), self.path(0, 44), self.path(1, 44)]
        assert told == [f"ts1-reward {EID}, seed 43: predicting"]
        (tmp_path / self.path(1, 43)).touch()
        report, calls, _ = self.predict(tmp_path, monkeypatch)
        assert calls == []
        assert len(report.skipped) == 4

    def test_a_task_that_fails_fails_alone(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        report, calls, told = self.predict(tmp_path, monkeypatch, "ts1-choice", baseline="linear")
        assert report.failed == dict.fromkeys(
            [self.path(0, 43), self.path(0, 44)], "no such trials"
        )
        assert calls == [(None, [self.path(1, 43), self.path(1, 44)])]
        assert told[1] == f"ts1-reward {EID}, seed 43, 44: predicting"

    def test_without_a_model_all_fail(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        report, calls, _ = self.predict(tmp_path, monkeypatch, "model")
        assert calls == []
        paths = [self.path(task, seed) for task in (0, 1) for seed in (43, 44)]
        assert report.failed == dict.fromkeys(paths, "no units")


@pytest.mark.parametrize("end_to_end", [True, False])
def test_seeds_are_told_to_what_is_trained_end_to_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, end_to_end: bool
) -> None:
    asked, written = list[Any](), list[Any]()
    found = SimpleNamespace(tensors={"a": 1}, chosen={"c": 0.5})
    monkeypatch.setattr(
        requests, "predict_behaviour", lambda *a, **k: asked.append((a, k)) or found
    )
    monkeypatch.setattr(requests, "write_predictions", lambda *a: written.append(a))
    recording: Any = SimpleNamespace(eid=EID, build="b", version="v")
    places = [requests.Place("l", "ts1-choice", EID, seed) for seed in (44, 45)]
    request = request_of(tmp_path, EID, end_to_end=end_to_end)
    requests._write_behaviour(request, recording, "model", places)  # type: ignore[arg-type]
    more = {"end_to_end": True, "seed": 44} if end_to_end else {}
    assert asked == [((recording, TASKS["ts1-choice"], "model"), more)]
    about = {"unit_filtering": "b", "dataset_version": "v"}
    assert written == [(tmp_path, place, {"a": 1}, about) for place in places]
    for seed in (44, 45):
        note = request.work / "ts1" / EID / f"seed_{seed}" / "ts1-choice.json"
        assert note.read_text() == '{\n "c": 0.5\n}'


@pytest.mark.parametrize("asked", ["model", "transformer", "baseline", None])
def test_activity_is_predicted_by_the_share_that_val_chooses_or_by_a_baseline(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asked: str | None
) -> None:
    calls, written = list[Any](), list[Any]()

    def note(name: str, result: Any) -> None:
        monkeypatch.setattr(requests, name, lambda *a: calls.append((name, *a)) or result)

    note("fit_activity", "fit")
    note("predict_activity", "p")
    note("choose_share", 0.3)
    note("predict_windows", "p")
    note("neural_tensors", ({"t": 1}, {"more": "x"}))
    truths = SimpleNamespace(of=lambda recording, task, split: f"{task.name} {split}")
    monkeypatch.setattr(requests, "NeuralTruth", truths)
    monkeypatch.setattr(requests, "write_predictions", lambda *a: written.append(a))
    recording: Any = SimpleNamespace(eid=EID, build="b", version="v", unit_ids=["u"])
    name = next(name for name in TASKS if name.startswith("ts2"))
    places = [requests.Place("l", name, EID, seed) for seed in (44, 45)]
    request = request_of(tmp_path, EID, baseline="own" if asked == "baseline" else None)
    model, refitted = (SimpleNamespace(dynamics_share=torch.tensor(x)) for x in (0.3, 0.7))
    note("has_dynamics", asked == "model")
    no_baseline = asked in ("model", "transformer")

    def last(of: Any) -> Any:
        calls.append(("last", of))
        return refitted

    own: Any = model if no_baseline else None
    requests._write_activity(last, request, recording, own, places)
    test = f"{name} test"
    notes = sorted(path.parent.name for path in request.work.rglob(f"{name}.json"))
    assert float(refitted.dynamics_share) == pytest.approx(0.3 if asked == "model" else 0.7)
    calls = [call for call in calls if call[0] != "last"]
    if no_baseline:
        by = refitted if asked == "model" else model
        expected = [
            ("choose_share", model, EID, ["u"], f"{name} val"),
            ("has_dynamics", model, TASKS[name]),
            ("predict_windows", by, EID, ["u"], test),
        ]
        assert notes == ["seed_44", "seed_45"]
        note_file = request.work / "ts2" / EID / "seed_44" / f"{name}.json"
        assert json.loads(note_file.read_text()) == {"val poisson_d2 by share of dynamics": 0.3}
    else:
        of = "own" if asked == "baseline" else "linear"
        expected = [("fit_activity", recording, TASKS[name], of), ("predict_activity", "fit", test)]
        assert notes == []
    assert calls == [*expected, ("neural_tensors", test, "p")]
    about = {"unit_filtering": "b", "dataset_version": "v", "more": "x"}
    assert written == [(tmp_path, place, {"t": 1}, about) for place in places]


@pytest.mark.parametrize("name", ["linear", "reduced_rank"])
def test_a_baseline_of_behaviour_is_the_one_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    asked, written = list[Any](), list[Any]()
    found = SimpleNamespace(tensors={"a": 1}, chosen={"c": 0.5})

    def predict(recording: Any, task: Any, model: Any = None, **how: Any) -> Any:
        asked.append((recording, task, model, how))
        return found

    monkeypatch.setattr(requests, "predict_behaviour", predict)
    monkeypatch.setattr(requests, "write_predictions", lambda *a: written.append(a[:3]))
    recording: Any = SimpleNamespace(eid=EID, build="b", version="v")
    places = [requests.Place("l", "ts1-wheel_speed", EID, seed) for seed in (44, 45)]
    request = request_of(tmp_path, EID, baseline=name)
    requests._write_behaviour(request, recording, None, places)
    more = {"low_rank": True} if name == "reduced_rank" else {}
    assert asked == [(recording, TASKS["ts1-wheel_speed"], None, more)]
    assert written == [(tmp_path, place, {"a": 1}) for place in places]


def test_what_is_written_lies_beside_what_was_and_replaces_its_like(tmp_path: Path) -> None:
    request = request_of(tmp_path / "not" / "there", EID)
    tasks = ("ts1-choice", "ts1-reward", "ts1-choice")
    for number, task in enumerate(tasks):
        place = requests.Place("l", task, EID, 44)
        requests._note(request, "ts1", place, {"n": number})
        file = requests.write_predictions(request.out, place, {"x": np.arange(3)}, {"k": number})
        with safe_open(file, "np") as written:
            assert written.metadata() == {
                "label": "l", "task": task, "seed": "44", "recording_id": EID, "k": str(number)
            }  # fmt: skip
            assert written.get_tensor("x").tolist() == [0, 1, 2]
    notes = {path.stem: json.loads(path.read_text()) for path in request.work.rglob("*.json")}
    assert notes == {"ts1-choice": {"n": 2}, "ts1-reward": {"n": 1}}
    without = requests.write_predictions(
        request.out, requests.Place("l", "ts3-unit_cosmos", "", 44), {"x": np.arange(3)}, {}
    )
    with safe_open(without, "np") as written:
        assert written.metadata() == {"label": "l", "task": "ts3-unit_cosmos", "seed": "44"}
