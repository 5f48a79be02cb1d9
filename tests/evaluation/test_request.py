"""What is asked of an evaluation: names of tasks, sessions, places; and what latents tell."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from sklearn.linear_model import Ridge

from ibl_mtm.errors import SessionError, UserError
from ibl_mtm.evaluation import evaluate as module
from ibl_mtm.evaluation import request
from ibl_mtm.evaluation.behaviour import latent_observer
from ibl_mtm.evaluation.metrics import r2
from ibl_mtm.evaluation.request import (
    Request,
    chosen_sessions,
    deals_of,
    known_tasks,
    own_tasks,
    sessions_of,
)
from ibl_mtm.evaluation.score_session import ALL_TASKS, TASKS
from ibl_mtm.training.settings import DataSettings


class TestNamesOfTasks:
    def test_as_people_write_them(self):
        assert known_tasks(["Co-Smoothing", " choice ", "wheel speed"]) == [
            "co_smoothing",
            "choice",
            "wheel_speed",
        ]
        assert known_tasks(["choice", "Choice"]) == ["choice"]

    def test_ones_own_are_as_they_are_called(self):
        assert known_tasks(["Pupil-size", "choice"], ["Pupil_size"]) == ["Pupil_size", "choice"]
        with pytest.raises(
            UserError, match=r"unknown task 'pupil_size'; known: .*Pupil_size, or all"
        ):
            known_tasks(["pupil_size"], ["Pupil_size"])

    def test_by_default_and_all(self):
        assert known_tasks(TASKS) == TASKS
        assert known_tasks(TASKS, ["mine", "choice"]) == (*TASKS, "mine")
        assert known_tasks(list(TASKS), ["mine"]) == (*TASKS, "mine")
        assert known_tasks(["all"], ["mine"]) == (*ALL_TASKS, "mine")
        assert known_tasks(["choice", "all"]) == ALL_TASKS
        assert known_tasks(["choice"], ["mine"]) == ["choice"]


class Cache(dict):
    path = "there"

    def find(self, name):
        return [eid for eid in self if eid.startswith(name)]


def test_sessions_by_their_beginnings_each_once():
    cache = Cache.fromkeys(["ab1", "ab2", "c"])
    assert chosen_sessions(["c", "ab", "ab2"], cache) == ["c", "ab1", "ab2"]


@pytest.mark.parametrize(("n", "more"), [(4, ""), (5, ", …")])
def test_sessions_of_a_model_that_are_not_here_are_told(caplog, n, more):
    known = [f"s{i}" for i in range(n)]
    assert sessions_of(known, Cache.fromkeys(known)) == known
    assert caplog.text == ""
    assert sessions_of(known, Cache.fromkeys(["s0", "x"])) == ["s0"]
    told = f"{n - 1} of the model's {n} sessions are not in there, and not scored: s1, s2, s3"
    assert caplog.messages == [told + more]
    with pytest.raises(UserError, match=f"there holds none of the {n} sessions"):
        sessions_of(known, Cache())


def test_what_sessions_declare_is_found_and_damaged_ones_are_passed_over(monkeypatch):
    class Damaged(Cache):
        def __getitem__(self, eid):
            if eid == "b":
                raise SessionError("b", "damaged")
            return SimpleNamespace(attrs=super().__getitem__(eid))

    monkeypatch.setattr(request, "to_decode", lambda attrs: attrs)
    cache = Damaged(a=["x", "y"], b=["lost"], c=["z", "x"])
    assert own_tasks(cache, ["a", "b", "c"]) == ("x", "y", "z")
    assert own_tasks(cache, ["c"]) == ("z", "x")


class TestWhereScoresGo:
    def asked(self, into, overwrite):
        return Request({"run": "r"}, "m", ["choice"], None, None, into, overwrite)

    def test_they_must_join_what_is_there_unless_it_is_replaced(self, monkeypatch, tmp_path):
        looked = []
        monkeypatch.setattr(request, "check_joins", lambda *a: looked.append(a))
        self.asked(tmp_path, True).check({"a": 1})
        self.asked(None, False).check({"a": 1})
        assert looked == []
        self.asked(str(tmp_path), False).check({"a": 1})
        assert looked == [(tmp_path, {"run": "r", "provenance": {"a": 1}})]

    def test_a_file_is_no_folder(self, tmp_path):
        (tmp_path / "file").touch()
        with pytest.raises(UserError, match=r"\(--out DIR puts the scores elsewhere\)"):
            self.asked(tmp_path / "file", True).check({})
        assert self.asked(None, False).r2 == "own"


@pytest.mark.parametrize(
    ("included", "split", "refused"),
    [(True, {"kind": "random"}, True), (False, {"kind": "random"}, False), (True, None, False)],
)
def test_runs_that_split_by_other_rules_are_refused(tmp_path, included, split, refused):
    settings = DataSettings.model_validate({"included_only": included, "split": split})
    if refused:
        with pytest.raises(UserError, match="split included trials on their own"):
            deals_of(tmp_path, settings)
    else:
        assert deals_of(tmp_path, settings) == {}


def test_a_model_without_settings_has_those_that_say_nothing(tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    assert module._settings_of(folder).name == "model"
    (folder / "config.yaml").write_text("name: told\nsteps: 3\n")
    found = module._settings_of(folder)
    assert (found.name, found.steps) == ("told", 3)


class TestWhatLatentsTell:
    SPLIT = np.array(["train", "val", "test", "train", "train", "val", "test", "none"] * 5)

    def traces(self, log):
        rng = np.random.default_rng(0)
        features = rng.normal(size=(40, 6, 3)) * [1, 5, 0]
        linear = features @ [0.5, -0.2, 9.0] + rng.normal(0, 0.3, (40, 6))
        return features, np.exp(linear) if log else linear - linear.min() + 0.5

    @pytest.mark.parametrize("log", [True, False])
    def test_a_trace_is_regressed_as_it_is_or_as_its_logarithm(self, log):
        features, trace = self.traces(log)
        trace[3, 2] = np.nan  # a trial that has no part
        found = latent_observer._regress(features, trace, self.SPLIT)
        fit = (self.SPLIT != "test") & (np.arange(40) != 3)
        x = features[fit].reshape(-1, 3)
        scale = np.array([x[:, 0].std(), x[:, 1].std(), 1])
        y = (np.log(trace[fit]) if log else trace[fit]).ravel()
        ridge = Ridge(alpha=latent_observer._PENALTY).fit(x / scale, y)
        told = ridge.predict(features.reshape(-1, 3) / scale).reshape(40, 6)
        if log:
            told = np.exp(told + (y - told[fit].ravel()).var() / 2)
        np.testing.assert_allclose(found, told, rtol=1e-9)
        assert r2(trace[self.SPLIT == "test"], found[self.SPLIT == "test"]) > 0.3

    def test_a_trace_that_is_not_positive_has_no_logarithm(self):
        features, trace = self.traces(True)
        trace[0, 0] = 0
        found = latent_observer._regress(features, trace, self.SPLIT)
        fit = self.SPLIT != "test"
        scale = np.r_[features[fit].reshape(-1, 3)[:, :2].std(0), 1]
        ridge = Ridge(alpha=latent_observer._PENALTY)
        ridge.fit(features[fit].reshape(-1, 3) / scale, trace[fit].ravel())
        np.testing.assert_allclose(
            found, ridge.predict(features.reshape(-1, 3) / scale).reshape(40, 6), rtol=1e-9
        )

    def test_classes_are_what_the_latents_hold(self):
        column = {name: np.zeros((4, 3)) for name in latent_observer.COLUMNS}
        column["move_left"][[0, 1], 1] = 1
        column["move_right"][[2, 3], 2] = 1
        column["reward"][[0, 2], 2] = 1
        column["error"][[1, 3], 2] = 1
        column["prior"][:] = np.array([0.3, -0.2, 0.0, -0.1])[:, None]
        latents = np.stack([column[name] for name in latent_observer.COLUMNS], 2)
        targets = {name: np.zeros(4) for name in ("choice", "feedback", "contrast_side", "block")}
        found = latent_observer.observe(latents, targets, np.array(["train"] * 4))
        sure = latent_observer._SURE
        assert sure == 5
        assert found["choice"].tolist() == [sure, sure, -sure, -sure]
        assert found["feedback"].tolist() == [sure, -sure, sure, -sure]
        assert found["contrast_side"].tolist() == [-sure, sure, sure, -sure]
        assert found["block"].tolist() == [sure, -sure, 0, -sure]
        assert latent_observer.observe(latents, {"another": np.zeros(4)}, self.SPLIT[:4]) == {}


def test_a_place_may_be_a_path_or_its_name():
    assert Request({}, "m", [], None, None, Path("x"), True).into == Path("x")
