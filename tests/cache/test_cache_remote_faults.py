"""A cache at a URL that is damaged, replaced meanwhile, or does not answer: told, and by whom."""

import json
import shutil
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from cache_servers import WebServer, serve
from published import SESSIONS, publish
from synthetic import make_regions, make_session

from ibl_mtm.cache.cache import open_cache
from ibl_mtm.cache.check import check
from ibl_mtm.cache.store import rebuild_sessions, write_session
from ibl_mtm.errors import SessionError, UserError

EID = SESSIONS[0].eid
Own = tuple[Path, WebServer]
ONCE_MORE = {"retry_config": {"max_retries": 1}}
IMPATIENT = {"client_options": {"timeout": timedelta(seconds=0.2)}, **ONCE_MORE}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return publish(tmp_path_factory.mktemp("published"))


@pytest.fixture
def own(folder: Path, tmp_path: Path) -> Iterator[tuple[Path, WebServer]]:
    """A published cache that a test may change."""
    root = Path(shutil.copytree(folder / "cache.zarr", tmp_path / "cache.zarr"))
    with serve(tmp_path) as server:
        yield root, server


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
