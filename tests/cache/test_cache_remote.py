"""A cache at a URL is the same cache, read by few requests."""

import json
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from cache_servers import WebServer, serve, serve_s3
from published import SESSIONS, publish
from typer.testing import CliRunner

from ibl_mtm.cache.cache import Cache, open_cache
from ibl_mtm.cache.store import create_cache
from ibl_mtm.cli import app
from ibl_mtm.errors import UserError

EID = SESSIONS[0].eid
ANONYMOUS = {"skip_signature": True}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return publish(tmp_path_factory.mktemp("published"))


@pytest.fixture(scope="module")
def local(folder: Path) -> Cache:
    return open_cache(folder / "cache.zarr")


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[WebServer]:
    with serve(folder) as server:
        yield server


@pytest.fixture
def asked(server: WebServer) -> list[str]:
    """What the web server is asked for in a test."""
    server.requests.clear()
    return server.requests


@pytest.fixture(scope="module", params=["http", "s3", "gs"])
def remote(request: pytest.FixtureRequest, folder: Path, server: WebServer) -> Iterator[Cache]:
    if request.param == "http":
        yield open_cache(f"{server.url}/cache.zarr")
    elif request.param == "s3":
        with serve_s3(folder, "some-bucket", "public-read") as options:
            yield open_cache("s3://some-bucket/cache.zarr", options | ANONYMOUS)
    else:
        # To read, Google's servers are asked for /BUCKET/KEY like any web server.
        with serve(folder.parent) as server:
            url = f"gs://{folder.name}/cache.zarr"
            yield open_cache(url, {"base_url": server.url} | ANONYMOUS)


def test_it_is_the_same_cache(remote: Cache, local: Cache) -> None:
    assert len(remote) == 2
    pd.testing.assert_frame_equal(remote.sessions, local.sessions)
    pd.testing.assert_frame_equal(remote.regions, local.regions)
    for eid, ds in local.items():
        xr.testing.assert_identical(remote[eid].load(), ds.load())
    assert list(remote.where("n_units > 10")) == list(local.where("n_units > 10"))
    assert set(remote.to_datatree().children) == set(local)


def test_it_can_be_sent_to_a_worker(remote: Cache, local: Cache) -> None:
    sent = pickle.loads(pickle.dumps(remote))
    assert str(sent.path) == str(remote.path)
    xr.testing.assert_identical(sent[EID].load(), local[EID])
    opened = pickle.loads(pickle.dumps(remote[EID]))
    xr.testing.assert_identical(opened.load(), local[EID])


def test_dask_arrays_when_asked_for(remote: Cache) -> None:
    ds = remote.open(EID, chunks={})
    assert ds.spikes.chunks == ((64, 6), (100,), (10,))
    assert int(ds.spikes.sum().compute()) == int(SESSIONS[0].spikes.sum())


def test_the_environment_has_the_credentials(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    create_cache(tmp_path / "cache.zarr")
    url = "s3://private-bucket/cache.zarr"
    with serve_s3(tmp_path, "private-bucket", "private") as options:
        with pytest.raises(UserError, match=rf"{url}/zarr\.json: access denied.*credentials"):
            open_cache(url, options | ANONYMOUS)
        monkeypatch.setenv("AWS_ENDPOINT_URL", options["endpoint_url"])
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "id")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
        result = CliRunner().invoke(app, ["sessions", url, "--json"])
    assert (result.exit_code, json.loads(result.stdout)) == (0, [])


def test_opening_costs_as_little_for_any_number_of_sessions(
    server: WebServer, asked: list[str], folder: Path
) -> None:
    open_cache(f"{server.url}/cache.zarr")
    two = sorted(asked)
    create_cache(folder / "empty.zarr")
    asked.clear()
    assert len(open_cache(f"{server.url}/empty.zarr")) == 0
    # The chunk of each column is what the table of an empty cache lacks.
    columns = [request for request in two if "/c/" in request]
    assert two == sorted([r.replace("empty", "cache") for r in asked] + columns)
    assert len(asked) == 2
    assert len(columns) == 14
    assert all(request.startswith("GET /cache.zarr/sessions/") for request in columns)


def test_a_session_is_read_when_asked_for(server: WebServer, asked: list[str]) -> None:
    cache = open_cache(f"{server.url}/cache.zarr")
    asked.clear()
    ds = cache[EID]
    below = f"GET /cache.zarr/{EID}"
    index = [f"{below}/{name}/c/0" for name in ("time", "trial", "unit")]
    assert sorted(asked) == sorted([*index, f"{below}/zarr.json"])
    asked.clear()
    np.testing.assert_array_equal(ds.spikes[64:].values, SESSIONS[0].spikes[64:])
    assert asked == [f"{below}/spikes/c/1/0/0"]


def test_no_cache_there(server: WebServer, asked: list[str]) -> None:
    url = f"{server.url}/nowhere.zarr"
    with pytest.raises(UserError, match=rf"no cache at {url}: {url}/zarr\.json is not there"):
        open_cache(url)
    assert len(asked) == 1
    with pytest.raises(UserError, match="is no ibl-mtm cache"):
        open_cache(f"{server.url}/cache.zarr/{EID}")


def test_commands_that_read(server: WebServer, local: Cache) -> None:
    url = f"{server.url}/cache.zarr"

    def run(*arguments: str) -> Any:
        result = CliRunner().invoke(app, [*arguments, "--json"])
        assert result.exit_code == 0
        return json.loads(result.stdout)

    assert [row["eid"] for row in run("sessions", url)] == list(local)
    assert [row["eid"] for row in run("sessions", url, "--where", "n_units == 10")] == [EID]
    assert run("sessions", url, "--session", EID)["n_units"] == 10
    assert run("check", url) == {"ok": True, "damaged": {}}


@pytest.mark.slow
def test_training_sees_the_same(server: WebServer, folder: Path, tmp_path: Path) -> None:
    weights = []
    for name, cache in {"url": f"{server.url}/cache.zarr", "path": folder / "cache.zarr"}.items():
        options = ["--cache", str(cache), "--run", str(tmp_path / name), "--json"]
        result = CliRunner().invoke(app, ["train", "mtm_small", *options, "steps=5"])
        assert result.exit_code == 0, result.output
        weights.append((tmp_path / name / "model.safetensors").read_bytes())
    assert weights[0] == weights[1]
    scored = ["eval", str(tmp_path / "url"), "--cache", f"{server.url}/cache.zarr", "--json"]
    result = CliRunner().invoke(app, [*scored, "--task", "co_smoothing"])
    assert result.exit_code == 0, result.output
    assert set(json.loads(result.stdout)["sessions"]) == {ds.eid for ds in SESSIONS}


@pytest.mark.parametrize(
    "arguments", [["ingest", "demo", "--cache"], ["check", "--repair"]], ids=lambda a: a[0]
)
def test_commands_that_write_refuse(arguments: list[str]) -> None:
    result = CliRunner().invoke(app, [*arguments, "s3://bucket/cache.zarr"])
    assert isinstance(result.exception, UserError)
    assert "aws s3 sync cache.zarr s3://bucket/cache.zarr" in str(result.exception)
