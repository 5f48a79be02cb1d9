"""A cache at a URL is the same cache, read by few requests; what fails is told, and by whom."""

import json
import pickle
import shutil
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from cache_servers import WebServer, serve, serve_s3
from synthetic import make_regions, make_session
from typer.testing import CliRunner

from ibl_mtm.cache.cache import Cache, open_cache
from ibl_mtm.cache.check import check
from ibl_mtm.cache.store import create_cache, rebuild_sessions, write_session
from ibl_mtm.cli import app
from ibl_mtm.errors import SessionError, UserError

SESSIONS = [
    make_session(seed=seed, n_units=10 + seed, n_trials=n) for seed, n in enumerate((70, 40))
]
EID = SESSIONS[0].eid
ANONYMOUS = {"skip_signature": True}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("published")
    create_cache(folder / "cache.zarr")
    for ds in SESSIONS:
        write_session(folder / "cache.zarr", ds, make_regions())
    shutil.rmtree(folder / "cache.zarr.staging")
    return folder


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


@pytest.fixture
def own(folder: Path, tmp_path: Path) -> Iterator[tuple[Path, WebServer]]:
    """A published cache that a test may change."""
    root = Path(shutil.copytree(folder / "cache.zarr", tmp_path / "cache.zarr"))
    with serve(tmp_path) as server:
        yield root, server


Own = tuple[Path, WebServer]
ONCE_MORE = {"retry_config": {"max_retries": 1}}
IMPATIENT = {"client_options": {"timeout": timedelta(seconds=0.2)}, **ONCE_MORE}


def test_a_lost_chunk_is_no_silence(own: Own) -> None:
    root, server = own
    ds = open_cache(f"{server.url}/cache.zarr")[EID]
    (root / EID / "spikes/c/1/0/0").unlink()
    with pytest.raises(SessionError, match=rf"{EID}: spikes/c/1/0/0 is missing; run ibl-mtm check"):
        ds.spikes.load()


def test_a_replaced_session_is_not_mixed_with_the_new_one(own: Own) -> None:
    root, server = own
    new = SESSIONS[0].assign(spikes=SESSIONS[0].spikes[::-1].variable)
    cache = open_cache(f"{server.url}/cache.zarr")
    ds = cache[EID]
    ds.spikes[:5].load()
    write_session(root, new, make_regions(), overwrite=True)
    with pytest.raises(SessionError, match=rf"{EID}: spikes/c/./0/0 is .* another session's; open"):
        ds.spikes.load()
    assert cache[EID].equals(new)


def test_half_a_copy_is_damage(own: Own) -> None:
    root, server = own
    new = SESSIONS[0].assign(spikes=SESSIONS[0].spikes[::-1].variable)
    before = (root / EID / "spikes/c/1/0/0").read_bytes()
    write_session(root, new, make_regions(), overwrite=True)
    (root / EID / "spikes/c/1/0/0").write_bytes(before)
    for place in (root, f"{server.url}/cache.zarr"):
        with pytest.raises(SessionError, match="spikes/c/1/0/0 is damaged or another session's"):
            open_cache(place)[EID].load()
        assert list(check(place)) == [EID]


def test_a_cache_of_an_earlier_version(own: Own) -> None:
    root, server = own
    path = root / EID / "zarr.json"
    document = json.loads(path.read_text())
    del document["attributes"]["chunk_checksums"]
    path.write_text(json.dumps(document))
    cache = open_cache(f"{server.url}/cache.zarr")
    assert cache[EID].equals(SESSIONS[0])
    (root / EID / "spikes/c/1/0/0").unlink()
    with pytest.raises(SessionError, match="is missing"):
        cache[EID].spikes.load()


def test_the_table_says_which_sessions_there_are(own: Own) -> None:
    root, server = own
    url = f"{server.url}/cache.zarr"
    third = make_session(seed=9)
    write_session(root, third, make_regions(), listed=False)
    shutil.rmtree(root / EID)
    cache = open_cache(url)
    assert set(cache) == {ds.eid for ds in SESSIONS}
    with pytest.raises(SessionError, match=rf"{EID}: cannot be opened .*cache\.zarr/{EID}"):
        cache[EID]
    assert list(check(url)) == [EID]
    rebuild_sessions(root)
    assert set(open_cache(url)) == {SESSIONS[1].eid, third.eid}
    assert check(url) == {}
    shutil.rmtree(root / "sessions")
    with pytest.raises(UserError, match=r"no table of sessions.*check --repair.*copy that again"):
        open_cache(url)
    assert list(check(url)) == ["sessions"]


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("file", "named"),
    [
        (f"{EID}/spikes/c/0/0/0", EID),
        (f"{EID}/lick_count/zarr.json", EID),
        (f"{EID}/unit/c/0", EID),
        ("sessions/n_units/c/0", "sessions"),
        ("regions/color/c/0", "regions"),
    ],
)
def test_a_flipped_bit_is_found(own: Own, file: str, named: str) -> None:
    root, server = own
    flip(root / file)
    assert list(check(f"{server.url}/cache.zarr")) == [named]


def test_check_reads_everything(own: Own) -> None:
    root, server = own
    assert check(f"{server.url}/cache.zarr") == {}
    files = {f"GET /cache.zarr/{f.relative_to(root)}" for f in root.rglob("*") if f.is_file()}
    assert set(server.requests) == files


def test_a_server_that_is_down(own: Own) -> None:
    _, server = own
    url = f"{server.url}/cache.zarr"
    cache = open_cache(url)
    ds = cache[EID]
    server.stop()
    for read in (lambda: open_cache(url, ONCE_MORE), lambda: check(url)):
        with pytest.raises(UserError, match=rf"^{url}/zarr\.json cannot be read .* server is up"):
            read()
    for read in (lambda: cache[SESSIONS[1].eid], ds.spikes.load):
        with pytest.raises(UserError, match=rf"^{url}/.* cannot be read .* try again"):
            read()


@pytest.mark.parametrize("status", [401, 403, 500, 503])
def test_a_server_that_refuses(own: Own, status: int) -> None:
    _, server = own
    url = f"{server.url}/cache.zarr"
    cache = open_cache(url, ONCE_MORE)
    ds = cache[EID]
    server.fault = status
    expected = rf"{url}.*: access denied" if status < 500 else rf"{url}.* cannot be read"
    for read in (
        lambda: open_cache(url, ONCE_MORE),
        lambda: cache[SESSIONS[1].eid],
        lambda: cache.regions,
        ds.spikes.load,
    ):
        server.requests.clear()
        with pytest.raises(UserError, match=rf"{expected}.*HTTP {status}") as caught:
            read()
        assert "\n" not in str(caught.value)
        most = 1 if status < 500 else 2  # for each file
        assert len(server.requests) <= most * len(set(server.requests))


def test_a_server_that_does_not_answer(own: Own) -> None:
    _, server = own
    server.delay = 1.0
    with pytest.raises(UserError, match=r"zarr\.json cannot be read \(.*\); check the address"):
        open_cache(f"{server.url}/cache.zarr", IMPATIENT)
    assert 1 <= len(server.requests) <= 2


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
