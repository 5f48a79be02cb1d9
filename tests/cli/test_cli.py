"""The commands as a user types them: results, JSON, exit codes, and mistakes told in one line."""

import contextlib
import importlib
import io
import json
import multiprocessing
import re
import subprocess
import sys
from pathlib import Path

import pytest
from synthetic import make_regions, make_session

import ibl_mtm
from ibl_mtm.cache.store import create_cache, write_session
from ibl_mtm.cli import main
from ibl_mtm.errors import UserError


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    root = tmp_path_factory.mktemp("cli") / "cache.zarr"
    create_cache(root)
    for seed, n_units in ((1, 15), (2, 20)):
        write_session(
            root, make_session(n_units=n_units, n_trials=40, n_bins=20, seed=seed), make_regions()
        )
    return root


@pytest.fixture(scope="module")
def trained(cache, tmp_path_factory):
    run = tmp_path_factory.mktemp("cli-run") / "run"
    settings = ["steps=4", "validate_every=2", "model.width=16", "model.layers=1", "model.heads=2"]
    command = ["ibl-mtm", "train", "mtm_small", "--cache", cache, "--run", run, *settings, "--json"]
    out = io.StringIO()
    with pytest.MonkeyPatch.context() as typed, contextlib.redirect_stdout(out):
        typed.setattr(sys, "argv", list(map(str, command)))
        with pytest.raises(SystemExit) as stop:
            main()
    assert not stop.value.code
    return run, json.loads(out.getvalue())


def assert_one_line(err, *parts):
    assert len(err.strip().splitlines()) == 1, err
    assert "Traceback" not in err
    for part in parts:
        assert part in err


def test_sessions_are_listed_and_chosen(run, cache):
    code, out, _ = run("sessions", cache)
    assert code == 0
    assert "SYN_001" in out
    assert "SYN_002" in out
    code, out, _ = run("sessions", cache, "--where", "n_units > 15", "--json")
    (row,) = json.loads(out)
    assert (code, row["subject"], row["n_units"]) == (0, "SYN_002", 20)


def test_a_card_shows_one_session(run, cache):
    (row, _) = json.loads(run("sessions", cache, "--json")[1])
    code, out, _ = run("sessions", cache, "--session", row["eid"], "--json")
    card = json.loads(out)
    assert code == 0
    assert sum(card["regions"].values()) == row["n_units"]
    assert sum(card["splits"].values()) == row["n_trials"]
    assert card["variables"]["spikes"]["dims"] == ["trial", "time", "unit"]
    assert row["eid"] in run("sessions", cache, "--session", row["eid"])[1]


def test_check_says_that_all_is_well(run, cache):
    assert run("check", cache)[0] == 0
    assert json.loads(run("check", cache, "--json")[1]) == {"ok": True, "damaged": {}}


def test_train_prints_one_document(trained):
    folder, document = trained
    assert set(document) == {"run", "steps", "best_step", "val", "seconds", "init"}
    assert document["init"] is None
    assert document["run"] == str(folder)
    assert document["steps"] == 4


def test_eval_and_report_follow_train(run, cache, trained, tmp_path):
    folder, _ = trained
    # Without --cache: a run tells where its sessions are.
    code, out, _ = run("eval", folder, "--task", "co_smoothing", "--json")
    document = json.loads(out)
    assert code == 0
    assert set(document["sessions"]) == set(ibl_mtm.open_cache(cache))
    assert set(document["tasks"]) == {"co_smoothing"}
    assert document["tasks"]["co_smoothing"]["n_units"] > 0
    scored = ibl_mtm.read_scored_run(folder)
    assert scored.scores["tasks"].keys() == {"co_smoothing"}
    examples = scored.session(scored.eids[0])
    # As docs/evaluation.md lists them.
    known = {"psth_observed", "psth_predicted", "n_trials", "example_spikes", "example_rates"}
    assert set(examples.data_vars) == known
    assert {"unit", "region", "color", "order", "time", "example", "condition"} == set(
        examples.coords
    )
    page = tmp_path / "report.html"
    assert run("report", folder, "--out", page)[0] == 0
    assert page.read_text().lower().startswith("<!doctype html>")


def test_mistakes_are_told_in_one_line(run, cache, trained, tmp_path):
    folder, _ = trained
    options = ["--cache", cache]
    for arguments, parts in [
        (["ingest", "dmeo", "--cache", tmp_path / "c.zarr"], ["dmeo", "demo"]),
        (["sessions", tmp_path], [str(tmp_path), "cache"]),
        (["sessions", cache, "--where", "n_unit > 3"], ["n_unit", "n_units"]),
        (["sessions", cache, "--session", "nobody"], ["nobody"]),
        (["check", tmp_path / "none.zarr"], ["none.zarr"]),
        (["train", "mtm_smal", *options, "--run", tmp_path / "r"], ["mtm_smal"]),
        (["train", "mtm_small", *options, "--run", tmp_path / "r", "step=3"], ["step", "steps"]),
        (["train", "mtm_small", *options, "--run", folder], [str(folder), "--overwrite"]),
        (["eval", tmp_path, *options], [str(tmp_path), "no trained model"]),
        (["eval", folder, "--cache", tmp_path], [str(tmp_path)]),
        (["eval", folder, *options, "--task", "sorting"], ["sorting", "co_smoothing"]),
        (["eval", folder, *options, "--session", "nobody"], ["nobody"]),
        (["report", tmp_path / "none"], ["none"]),
    ]:
        code, out, err = run(*arguments)
        assert code == 2, arguments
        assert out == ""
        assert_one_line(err, *parts)


def test_an_unknown_key_of_the_catalog_is_named_with_its_line(run, tmp_path):
    catalog = tmp_path / "catalog.yaml"
    catalog.write_text("datasets:\n  mine:\n    source: {kind: local, path: x}\n    aling: {}\n")
    code, _, err = run("ingest", "mine", "--cache", tmp_path / "c.zarr", "--catalog", catalog)
    assert code == 2
    assert_one_line(err, "line 4", "aling", "align")


def test_an_unknown_option_is_told_by_the_parser(run, cache):
    code, _, err = run("sessions", cache, "--were", "x")
    assert code == 2
    assert "--were" in err


def test_a_failed_session_makes_exit_code_1(run, tmp_path):
    """Ingest two simulated sessions, one of them with a truncated spike file."""
    one_dir, cache = tmp_path / "one", tmp_path / "cache.zarr"
    code, _, _ = run("simulate", one_dir, "--sessions", 2, "--units", 20, "--trials", 20)
    assert code == 0
    broken = sorted(one_dir.rglob("spikes.times.npy"))[0]
    broken.write_bytes(broken.read_bytes()[:1000])
    catalog = tmp_path / "catalog.yaml"
    catalog.write_text("datasets:\n  mine:\n    source: {kind: local, path: one}\n")
    options = ["--cache", cache, "--catalog", catalog, "--json"]
    code, out, _ = run("ingest", "mine", *options)
    outcomes = json.loads(out)["sessions"].values()
    assert code == 1
    assert sorted(o["status"] for o in outcomes) == ["failed", "ingested"]
    (reason,) = (o["reason"] for o in outcomes if o["status"] == "failed")
    assert "spikes.times.npy" in reason
    assert len(json.loads(run("sessions", cache, "--json")[1])) == 1


def test_starting_is_light():
    """Neither torch nor ONE nor xarray is imported before it is needed."""
    code = (
        "import sys, ibl_mtm, ibl_mtm.cli;"
        "print([m for m in ('torch', 'one', 'xarray', 'zarr', 'pandas', 'lightning')"
        " if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_evaluating_needs_no_ingestion_packages():
    """A machine that only trains has neither ONE, ibllib nor dask.

    In a fork, which has torch already: what is ours is imported once more.
    """

    def import_afresh():
        absent = ("one", "brainbox", "ibllib", "iblatlas", "dask")
        for name in list(sys.modules):
            if name.split(".")[0] in {"ibl_mtm", *absent}:
                del sys.modules[name]
        sys.modules.update(dict.fromkeys(absent))
        for name in ("training.run", "evaluation.evaluate", "report.page"):
            importlib.import_module(f"ibl_mtm.{name}")
        with pytest.raises(ImportError):
            importlib.import_module("ibl_mtm.ingest.through_one.load")

    child = multiprocessing.get_context("fork").Process(target=import_afresh)
    child.start()
    child.join()
    assert child.exitcode == 0


def test_evaluation_does_not_know_what_is_made_of_it():
    """Reports and results of many runs are made of evaluations; so none is imported there."""
    room = Path(ibl_mtm.__file__).parent / "evaluation"
    sources = {file.name: file.read_text(encoding="utf-8") for file in room.rglob("*.py")}
    assert "score_session.py" in sources
    above = r"^\s*(from|import) ibl_mtm(\.| import )(experiments|report)"
    imports = re.compile(above, re.MULTILINE)
    assert [name for name, source in sources.items() if imports.search(source)] == []


def test_shipped_files_are_found_from_anywhere(tmp_path, monkeypatch):
    from ibl_mtm.config.yaml_settings import find_shipped

    monkeypatch.chdir(tmp_path)
    assert find_shipped("data_catalog.yaml").is_file()
    (tmp_path / "data_catalog.yaml").write_text("datasets: {}\n")
    assert find_shipped("data_catalog.yaml") == tmp_path / "data_catalog.yaml"
    below = tmp_path / "below"
    below.mkdir()
    monkeypatch.chdir(below)
    assert find_shipped("data_catalog.yaml") == Path(tmp_path / "data_catalog.yaml")


def test_the_version_is_shown_without_a_command(run):
    code, out, err = run("--version")
    assert (code, out.strip(), err) == (0, ibl_mtm.__version__, "")


def test_debug_may_stand_behind_the_command(tmp_path, monkeypatch):
    for arguments in (["--debug", "sessions", tmp_path], ["sessions", tmp_path, "--debug"]):
        monkeypatch.setattr(sys, "argv", ["ibl-mtm", *map(str, arguments)])
        with pytest.raises(UserError):
            main()


def test_a_package_that_is_not_installed_is_told_with_its_extra(tmp_path):
    """A machine that only trains has no ONE. In a process of its own: modules are not put back."""
    code = (
        "import sys; sys.modules['one'] = None;"
        f"sys.argv = ['ibl-mtm', 'ingest', 'demo', '--cache', {str(tmp_path / 'c.zarr')!r}];"
        "from ibl_mtm.cli import main; main()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert_one_line(done.stderr, "one", "pip install 'ibl-mtm[ingest]'")


@pytest.mark.slow
def test_the_quick_demo_goes_the_whole_way(tmp_path, run):
    code, out, _ = run("demo", "--quick", "--out", tmp_path / "demo")
    assert code == 0
    assert "co-smoothing" in out
    names = {path.name for path in (tmp_path / "demo").iterdir()}
    assert {"cache.zarr", "cache.one", "runs", "report.html"} <= names
    metrics = json.loads((tmp_path / "demo/runs/mtm/metrics.json").read_text())
    assert len(metrics["sessions"]) == 2
    assert metrics["simulated"] is True


def test_ctrl_c_does_not_wait_for_what_libraries_close(monkeypatch):
    """Dask and ibllib take seconds to; nothing of ours is left open by then."""
    ended = []
    monkeypatch.setattr("os._exit", ended.append)
    for code in (0, 1, 2, 130, 143):
        monkeypatch.setattr("ibl_mtm.cli.app", lambda words, code=code: sys.exit(code))
        with pytest.raises(SystemExit):
            main()
    assert ended == [130]


def test_a_tilde_after_an_equals_sign_is_the_home_folder(run, cache, monkeypatch):
    """Shells leave it as it is."""
    monkeypatch.setenv("HOME", str(Path(cache).parent))
    name = Path(cache).name
    code, out, _ = run("check", f"~/{name}")
    assert code == 0
    assert f"{cache}: every session is whole" in out
    run("train", "mtm_small", f"--cache=~/{name}", "--run=~/nothing", "steps=none")
    assert not Path("~").exists()
