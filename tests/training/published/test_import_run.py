"""A published checkpoint becomes a run that computes the same, and is taken by every command."""

import json

import numpy as np
import pandas as pd
import pytest
import torch
from plain_paper import PlainModel, save_plain
from synthetic import make_regions, make_session
from typer.testing import CliRunner

import ibl_mtm
from ibl_mtm.cache.store import create_cache, write_session
from ibl_mtm.cli import app
from ibl_mtm.config.yaml_settings import read_settings
from ibl_mtm.disk.ownership import is_marked
from ibl_mtm.errors import UserError
from ibl_mtm.training.checkpoint.pretrained import load_model
from ibl_mtm.training.published import import_run
from ibl_mtm.training.published.import_run import import_published
from ibl_mtm.training.published.unit_list import read_units
from ibl_mtm.training.run import train
from ibl_mtm.training.settings import RunSettings, read_run_settings

TINY = {"width": 16, "layers": 2, "heads": 2, "mlp": 24, "stitch": 10}
N_TIME = 20


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """Unequal sessions in which half of the units copy others, so that one can predict."""
    root = tmp_path_factory.mktemp("published") / "cache.zarr"
    create_cache(root)
    for seed, n_units in ((1, 15), (2, 20)):
        ds = make_session(n_units=n_units, n_trials=60, n_bins=N_TIME, seed=seed)
        rng = np.random.default_rng(seed)
        on = rng.random((60, N_TIME, 1)) < 0.3
        rates = np.where(on, 1.2, 0.3) * np.geomspace(0.1, 4, n_units)
        ds["spikes"] = (ds.spikes.dims, rng.poisson(rates).astype(np.uint8))
        write_session(root, ds, make_regions())
    return ibl_mtm.open_cache(root)


@pytest.fixture(scope="module")
def published(cache, tmp_path_factory):
    """A plain model that learned both sessions, their units in another order than the cache's."""
    torch.manual_seed(0)
    order = {eid: np.random.default_rng(5).permutation(ds.sizes["unit"])
             for eid, ds in cache.items()}  # fmt: skip
    sizes = {eid: len(units) for eid, units in order.items()}
    model = PlainModel(sizes, n_time=N_TIME, others=["never-seen"], **TINY)
    counts = {}
    for eid, ds in cache.items():
        split = ds.split.values.astype(str)
        counts[eid] = torch.from_numpy(ds.spikes.values[split == "train"][:, :, order[eid]])
        bias = model.stitch_decoder.stitch_decoder_dict[str(sizes[eid])].bias
        bias.data = (counts[eid].float().mean((0, 1)) + 0.01).log()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    for step in range(80):
        eid = list(counts)[step % 2]
        hidden = (torch.rand(len(counts[eid]), 1, sizes[eid]) < 0.3).expand(counts[eid].shape)
        log_rate = model(counts[eid], hidden, eid, "neuron")
        loss = (log_rate.exp() - counts[eid] * log_rate)[hidden].mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    folder = tmp_path_factory.mktemp("file")
    rows = [(eid, unit) for eid, ds in cache.items()
            for unit in ds.unit.values.astype(str)[order[eid]]]  # fmt: skip
    pd.DataFrame(rows, columns=["eid", "uuid"]).to_csv(folder / "units.csv", index=False)
    save_plain(model, folder / "model_best.pt")
    return model, folder, order


@pytest.fixture(scope="module")
def run(cache, published, tmp_path_factory):
    _, folder, _ = published
    said = []
    run = tmp_path_factory.mktemp("run") / "published"
    report = import_published(
        folder / "model_best.pt", run, units=folder / "units.csv", cache=cache, say=said.append
    )
    return run, report, said


def test_the_run_computes_what_the_published_model_does(cache, published, run):
    plain, _, order = published
    model = load_model(run[0])
    for eid, ds in cache.items():
        rates = ibl_mtm.predict(model, ds, prompt="inter_region").values[:, :, order[eid]]
        counts = torch.from_numpy(ds.spikes.values[:, :, order[eid]])
        with torch.no_grad():
            expected = plain(counts, torch.zeros_like(counts, dtype=bool), eid, "inter-region")
        np.testing.assert_allclose(np.log(rates), expected, rtol=0, atol=1e-5)


def test_what_was_taken_is_reported(cache, run):
    folder, report, said = run
    assert (report.n_units, report.left_out) == (35, ["never-seen"])
    assert report.sessions == list(cache)
    assert report.schemes == ["neuron", "causal", "intra_region", "inter_region"]
    assert report.below_mean == report.unlike == []
    assert min(report.scores.values()) > 0
    assert min(report.correlations.values()) > 0.95
    assert not any("WARNING" in line for line in said)
    assert any("which trials trained it stands in no file" in line for line in said)
    table = pd.read_parquet(folder / "units.parquet")
    assert table.groupby("eid").size().to_dict() == {e: d.sizes["unit"] for e, d in cache.items()}
    told = json.loads((folder / "training.json").read_text())
    assert told["imported"]["sha256"] == report.sha256


def test_what_an_import_writes_down(cache, published, tmp_path, monkeypatch):
    """And of an earlier run of this folder nothing is left."""
    monkeypatch.setattr(import_run, "_score", lambda *given: (-0.12345678, 0.98765432))
    _, folder, _ = published
    file, run = folder / "model_best.pt", tmp_path / "run"
    for overwrite in (False, True):
        report = import_published(
            file, run, units=folder / "units.csv", cache=cache, overwrite=overwrite
        )
        assert not (run / "metrics.json").exists()
        (run / "metrics.json").write_text("{}")
    assert is_marked(run, "run")
    assert report.scores == dict.fromkeys(cache, -0.123457)
    assert report.correlations == dict.fromkeys(cache, 0.987654)
    assert (report.below_mean, report.unlike) == (list(cache), [])
    told = json.loads((run / "training.json").read_text())
    assert told.items() >= {
        "run": str(run), "steps": 0, "best_step": 0, "val": {}, "seconds": 0.0, "init": None,
        "seed": 0, "n_sessions": 2, "cache": str(cache.path.resolve()),
        "imported": {"file": str(file), "sha256": report.sha256},
    }.items()  # fmt: skip
    kept = read_settings(run / "config.yaml", RunSettings)
    assert kept.masks.schemes == dict.fromkeys(report.schemes, 1.0)
    assert (kept.name, kept.data.split) == ("published", None)


def test_eval_embed_and_fine_tuning_take_it(cache, run, tmp_path):
    scores = ibl_mtm.evaluate(run[0], cache, tasks=["co_smoothing", "forward_prediction"]).metrics
    assert scores["tasks"]["co_smoothing"]["bits_per_spike"] > 0.02
    ds = next(iter(cache.values()))
    assert ibl_mtm.embed(load_model(run[0]), ds).sizes["feature"] == 16
    sizes = [f"model.{k}={v}" for k, v in TINY.items() if k != "stitch"]
    settings = read_run_settings(
        "paper", [*sizes, "model.stitch_width=10", "data.split=null", "steps=2", "batch_size=8"]
    )
    report = ibl_mtm.train(settings, cache, tmp_path / "tuned", init=run[0], progress=False)
    assert report.init["units"] == {"matched": 35, "new": 0, "left_out": 0}


def test_its_leak_is_said_where_it_shows(cache, run, tmp_path, caplog):
    """In what is seen under the causal prompt, and in a training that has it."""
    model, ds = load_model(run[0]), next(iter(cache.values()))
    ibl_mtm.embed(model, ds)
    ibl_mtm.predict(model, ds, task="forward_prediction")
    assert not caplog.messages
    ibl_mtm.embed(model, ds, prompt="causal")
    ibl_mtm.predict(model, ds, prompt="causal")
    assert [m for m in caplog.messages if "each bin sees later ones" in m] == caplog.messages
    assert len(caplog.messages) == 2
    said = []
    sizes = ["model.width=16", "model.layers=1", "model.heads=2", "model.stitch_width=10"]
    for leak in ("true", "false"):
        settings = read_run_settings(
            "paper", [*sizes, f"model.leading_tokens_see_all={leak}", "steps=1", "batch_size=8"]
        )
        train(settings, cache, tmp_path / leak, progress=False, say=said.append)
    assert len([line for line in said if "a bin sees later ones" in line]) == 1


def test_another_order_of_units_is_told(cache, published, tmp_path):
    """It raises no error anywhere; its score does."""
    _, folder, _ = published
    units = pd.read_csv(folder / "units.csv")
    eid = next(iter(cache))
    mine = units.eid == eid
    units.loc[mine, "uuid"] = units.uuid[mine].sort_values().values
    units.to_csv(tmp_path / "units.csv", index=False)
    said = []
    report = import_published(folder / "model_best.pt", tmp_path / "run", cache=cache,
                              units=tmp_path / "units.csv", say=said.append)  # fmt: skip
    assert report.below_mean == report.unlike == [eid]
    (warning,) = [line for line in said if "WARNING" in line]
    assert "stand in another order" in warning
    assert eid in warning


def test_without_a_cache_nothing_is_scored_and_that_is_said(cache, published, tmp_path):
    _, folder, _ = published
    said = []
    report = import_published(
        folder / "model_best.pt", tmp_path / "run", units=folder / "units.csv", say=said.append
    )
    assert report.scores == {}
    assert any("nothing was scored" in line for line in said)
    assert load_model(tmp_path / "run").scope.trial_format.start == -0.5
    scores = ibl_mtm.evaluate(tmp_path / "run", cache, tasks=["co_smoothing"]).metrics
    assert scores["tasks"]["co_smoothing"]["bits_per_spike"] > 0.02


def test_the_body_alone_starts_new_animals(cache, published, tmp_path):
    plain, folder, _ = published
    report = import_published(folder / "model_best.pt", tmp_path / "body", body_only=True)
    assert (report.n_units, report.sessions, len(report.left_out)) == (0, [], 3)
    with pytest.raises(UserError, match="none of the 0 sessions"):
        ibl_mtm.evaluate(tmp_path / "body", cache)
    sizes = [f"model.{k}={v}" for k, v in TINY.items() if k != "stitch"]
    settings = read_run_settings(
        "paper",
        [
            *sizes,
            "model.stitch_width=10",
            "data.split=null",
            "steps=1",
            "batch_size=8",
            "optimizer.learning_rate=1e-9",
        ],
    )
    tuned = tmp_path / "tuned"
    taken = ibl_mtm.train(settings, cache, tuned, init=tmp_path / "body", progress=False).init
    assert taken["units"] == {"matched": 0, "new": 35, "left_out": 0}
    model = load_model(tuned)
    own = plain.encoder.embedder.embed_spikes.weight.detach()
    torch.testing.assert_close(model.embed[0].weight, own, rtol=0, atol=1e-6)
    assert model.session_token.isfinite().all()


def test_the_command(cache, published, tmp_path):
    _, folder, _ = published
    arguments = ["import-published", str(folder / "model_best.pt"), "--out", str(tmp_path / "run"),
                 "--units", str(folder / "units.csv"), "--cache", str(cache.path)]  # fmt: skip
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    assert done.stdout.splitlines()[-1] == f"Run: {tmp_path / 'run'}"
    scored = CliRunner().invoke(app, ["eval", str(tmp_path / "run"), "--task", "co-smoothing"])
    assert scored.exit_code == 0, scored.output  # the run knows its cache
    again = CliRunner().invoke(app, [*arguments, "--overwrite", "--json"])
    assert json.loads(again.stdout)["n_units"] == 35
    refused = CliRunner().invoke(app, arguments)
    assert "--overwrite" in str(refused.exception)


def test_a_model_without_prompts_needs_its_schemes(cache, tmp_path):
    sizes = {eid: ds.sizes["unit"] for eid, ds in cache.items()}
    model = PlainModel(sizes, prompts=False, n_time=N_TIME, **TINY)
    file = save_plain(model, tmp_path / "model_last.pt")
    with pytest.raises(UserError, match="does not tell by which masking schemes"):
        import_published(file, tmp_path / "run", body_only=True)
    with pytest.raises(UserError, match="unknown masking scheme 'time'"):
        import_published(file, tmp_path / "run", body_only=True, schemes=["time"])
    import_published(file, tmp_path / "run", body_only=True, schemes=["temporal"])
    loaded = load_model(tmp_path / "run")
    assert loaded.scope.schemes == ("temporal",)
    assert not hasattr(loaded, "prompt_token")


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda t: t.rename(columns={"uuid": "unit"}), "lacks the column uuid; it has eid, unit"),
        (lambda t: t.iloc[:0], "names no unit"),
        (lambda t: t.iloc[1:], "has 19 units, and .* has no stitchers for so many .*20, 15"),
        (lambda t: pd.concat([t, t.iloc[:1]]), "stands there twice"),
        (lambda t: t.assign(eid="other"), "session other is none of the 3"),
        (lambda t: t.assign(uuid=["", *t.uuid[1:]]), "line 2: an empty uuid"),
        (lambda t: t.assign(uuid=["none", *t.uuid[1:]]), "1 of 20 units of session .* not in"),
    ],
    ids=["no column", "empty", "a unit less", "twice", "other session", "no uuid", "no such unit"],
)  # fmt: skip
def test_units_that_do_not_fit_are_told(cache, published, tmp_path, change, told):
    _, folder, _ = published
    change(pd.read_csv(folder / "units.csv")).to_csv(tmp_path / "own.csv", index=False)
    with pytest.raises(UserError, match=told) as error:
        import_published(folder / "model_best.pt", tmp_path / "run", cache=cache,
                         units=tmp_path / "own.csv")  # fmt: skip
    assert "\n" not in str(error.value)
    assert not (tmp_path / "run").exists()


def test_units_or_the_body_alone(published, tmp_path):
    _, folder, _ = published
    with pytest.raises(UserError, match="give them with --units CSV"):
        import_published(folder / "model_best.pt", tmp_path / "run")
    with pytest.raises(UserError, match="exclude each other"):
        import_published(folder / "model_best.pt", tmp_path / "run",
                         units=folder / "units.csv", body_only=True)  # fmt: skip
    with pytest.raises(UserError, match=r"cannot read .*none\.csv: No such file"):
        import_published(folder / "model_best.pt", tmp_path / "run", units=folder / "none.csv")


def test_sessions_and_their_units_stay_in_the_order_of_the_file(tmp_path):
    (tmp_path / "units.csv").write_text("n,uuid,eid\n1,U7,b\n2, u3 ,a\n3,u9,b\n4,u1,b\n5,u2,a\n")
    found = read_units(tmp_path / "units.csv")
    assert list(found.items()) == [("b", ["u7", "u9", "u1"]), ("a", ["u3", "u2"])]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("eid\nb\n", "lacks the column uuid; it has eid"),
        ("id,unit\nb,u\n", "lacks the column eid and uuid; it has id, unit"),
        ("eid,uuid\n", "names no unit"),
        ("eid,uuid\nb,u1\n ,u2\n", "line 3: an empty eid"),
        ("eid,uuid\nb, \n", "line 2: an empty uuid"),
        ("eid,uuid\nb,u1\na,U1\n", "unit u1 stands there twice"),
        ("", "is no CSV file"),
    ],
)
def test_a_list_of_units_that_is_none_is_told(tmp_path, text, told):
    (tmp_path / "units.csv").write_text(text)
    with pytest.raises(UserError, match=rf"units\.csv.*{told}"):
        read_units(tmp_path / "units.csv")
    with pytest.raises(UserError, match=r"cannot read .*lost\.csv"):
        read_units(tmp_path / "lost.csv")
