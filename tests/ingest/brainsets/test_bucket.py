"""Files from a bucket: fetched once, gone on with, compared, and never mixed."""

import hashlib
import shutil
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import boto3
import pytest
from cache_servers import serve_s3

from ibl_mtm.brainsets.layout import file_of, key_of, recordings_in
from ibl_mtm.config.dataset import Dataset
from ibl_mtm.config.sources import BrainsetsSource
from ibl_mtm.errors import SessionError, UserError
from ibl_mtm.ingest.brainsets import bucket as bucket_module
from ibl_mtm.ingest.brainsets.bucket import (
    describe,
    fetch,
    list_recordings,
    missing_bytes,
    open_bucket,
)
from ibl_mtm.ingest.brainsets.etag import agrees
from ibl_mtm.ingest.outcome import UnreachableError
from ibl_mtm.ingest.retry import Patience
from ibl_mtm.ingest.run import ingest

URL = "s3://brain-wide-bench/brainsets"
MB = 1 << 20


class Server:
    """A bucket with the simulated recordings for evaluation, all units, and ways to change it."""

    def __init__(self, endpoint: str) -> None:
        self.endpoint = endpoint
        self._client = boto3.client(
            "s3",
            endpoint_url=endpoint,
            aws_access_key_id="id",
            aws_secret_access_key="secret",
            region_name="us-east-1",
        )

    def put(self, eid: str, body: bytes, build: str = "all_units") -> None:
        key = f"brainsets/{key_of(build, 'eval', eid)}"
        self._client.put_object(Bucket="brain-wide-bench", Key=key, Body=body, ACL="public-read")

    def put_in_parts(self, eid: str, body: bytes, part: int) -> None:
        target = {
            "Bucket": "brain-wide-bench",
            "Key": f"brainsets/{key_of('all_units', 'eval', eid)}",
        }
        upload = self._client.create_multipart_upload(**target, ACL="public-read")["UploadId"]
        parts = []
        for number, start in enumerate(range(0, len(body), part), start=1):
            done = self._client.upload_part(
                **target, UploadId=upload, PartNumber=number, Body=body[start : start + part]
            )
            parts.append({"PartNumber": number, "ETag": done["ETag"]})
        self._client.complete_multipart_upload(
            **target, UploadId=upload, MultipartUpload={"Parts": parts}
        )

    def remove(self, eid: str) -> None:
        key = f"brainsets/{key_of('all_units', 'eval', eid)}"
        self._client.delete_object(Bucket="brain-wide-bench", Key=key)


@pytest.fixture
def server(wide_map: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setattr(bucket_module, "_BLOCK", 1 << 19)
    published = tmp_path / "published"
    for eid in recordings_in(wide_map, "all_units", "eval"):
        target = file_of(published / "brainsets", "all_units", "eval", eid)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file_of(wide_map, "all_units", "eval", eid), target)
    with serve_s3(published, "brain-wide-bench", "public-read") as options:
        yield Server(options["endpoint_url"])


def dataset(server: Server, **source: Any) -> Dataset:
    about = {"kind": "brainsets", "path": URL, "regime": "eval", "endpoint": server.endpoint}
    align = {"contiguous": 2.0, "bin": 0.02}
    return Dataset.model_validate(
        {"source": {**about, **source}, "align": align, "split": {"kind": "file"}}
    )


def source_of(server: Server, **source: Any) -> BrainsetsSource:
    source = dataset(server, **source).source
    assert isinstance(source, BrainsetsSource)
    return source


def _bytes(wide_map: Path, eid: str) -> bytes:
    return file_of(wide_map, "all_units", "eval", eid).read_bytes()


def test_a_dry_run_tells_what_is_to_fetch_and_keeps_nothing(
    server: Server, wide_map: Path, tmp_path: Path
) -> None:
    report = ingest(dataset(server), "x", tmp_path / "c.zarr", dry_run=True)
    sizes = {
        eid: len(_bytes(wide_map, eid)) for eid in recordings_in(wide_map, "all_units", "eval")
    }
    assert {eid: o.n_bytes for eid, o in report.sessions.items()} == sizes
    assert {o.status for o in report.sessions.values()} == {"planned"}
    assert not (tmp_path / "c.one").exists()


def test_sessions_are_fetched_once_and_then_offline(
    server: Server, wide_map: Path, tmp_path: Path
) -> None:
    cache = tmp_path / "c.zarr"
    with pytest.raises(UserError, match=r"nothing of s3://.* is on disk in .*c\.one; without"):
        ingest(dataset(server), "x", cache, offline=True)
    came: list[int] = []
    report = ingest(
        dataset(server), "x", cache, workers=1, on_bytes=lambda n, total: came.append(n)
    )
    assert report.failed == {}
    eids = list(report.sessions)
    assert eids == recordings_in(wide_map, "all_units", "eval")
    for eid in eids:
        kept = file_of(tmp_path / "c.one", "all_units", "eval", eid)
        assert kept.read_bytes() == _bytes(wide_map, eid)
        assert report.sessions[eid].n_bytes == kept.stat().st_size
    assert sum(came) == sum(o.n_bytes for o in report.sessions.values())
    assert not list((tmp_path / "c.one").rglob("*.part"))
    # Another cache from the same downloads: nothing comes, with the bucket or without.
    folder = {"path": tmp_path / "c.one", "url": URL}
    for name, offline in (("d", False), ("e", True)):
        again = ingest(
            dataset(server, **folder), "x", tmp_path / f"{name}.zarr", workers=1, offline=offline
        )
        assert {(o.status, o.n_bytes) for o in again.sessions.values()} == {("ingested", 0)}


def test_an_interrupted_download_goes_on_where_it_was(
    server: Server, wide_map: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket = open_bucket(source_of(server))
    remote = next(iter(list_recordings(bucket, source_of(server)).values()))
    path = tmp_path / "x" / f"{remote.eid}.h5"
    get, asked = bucket_module._get, []

    def three_blocks(*args: Any) -> bytes:
        asked.append(args[2])
        if len(asked) == 4:
            raise KeyboardInterrupt
        return get(*args)

    monkeypatch.setattr(bucket_module, "_get", three_blocks)
    with pytest.raises(KeyboardInterrupt):
        fetch(bucket, remote, path, Patience())
    assert not path.exists()
    assert missing_bytes(remote, path) == remote.size - 3 * (1 << 19)
    fetch(bucket, remote, path, Patience())
    assert asked[4][0] == 3 * (1 << 19)
    assert path.read_bytes() == _bytes(wide_map, remote.eid)
    assert missing_bytes(remote, path) == 0


def test_what_was_begun_of_another_version_is_not_gone_on_with(
    server: Server, wide_map: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket = open_bucket(source_of(server))
    eid, other = recordings_in(wide_map, "all_units", "eval")
    old = list_recordings(bucket, source_of(server))[eid]
    path = tmp_path / f"{eid}.h5"
    foreign = tmp_path / f"{eid}.h5.part"  # as a browser has it
    foreign.write_bytes(b"half of it")
    get, asked = bucket_module._get, []

    def replaced(*args: Any) -> bytes:
        asked.append(args[2])
        if len(asked) == 3:
            server.put(eid, _bytes(wide_map, other))
        return get(*args)

    monkeypatch.setattr(bucket_module, "_get", replaced)
    with pytest.raises(SessionError, match="replaced meanwhile; the same command fetches it anew"):
        fetch(bucket, old, path, Patience())
    assert not path.exists()
    new = list_recordings(bucket, source_of(server))[eid]
    assert new.etag != old.etag
    fetch(bucket, new, path, Patience())
    assert asked[3][0] == 0
    assert path.read_bytes() == _bytes(wide_map, other)
    assert [part for part in tmp_path.iterdir() if part.suffix == ".part"] == [foreign]


def test_a_file_that_the_bucket_replaced_is_fetched_anew(
    server: Server, wide_map: Path, tmp_path: Path
) -> None:
    bucket = open_bucket(source_of(server))
    eid, _ = recordings_in(wide_map, "all_units", "eval")
    path = tmp_path / f"{eid}.h5"
    fetch(bucket, list_recordings(bucket, source_of(server))[eid], path, Patience())
    # Of the same size: only the ETag tells.
    body = bytearray(_bytes(wide_map, eid))
    body[-1] ^= 1
    server.put(eid, bytes(body))
    newer = list_recordings(bucket, source_of(server))[eid]
    assert missing_bytes(newer, path) == len(body)
    fetch(bucket, newer, path, Patience())
    assert path.read_bytes() == bytes(body)


def test_a_copy_that_somebody_else_made_is_taken_if_it_is_right(
    server: Server, wide_map: Path, tmp_path: Path
) -> None:
    bucket = open_bucket(source_of(server))
    eid, _ = recordings_in(wide_map, "all_units", "eval")
    remote = list_recordings(bucket, source_of(server))[eid]
    path = tmp_path / f"{eid}.h5"
    came: list[int] = []
    path.write_bytes(_bytes(wide_map, eid))
    fetch(bucket, remote, path, Patience(), came.append)
    assert came == []
    path.with_suffix(".json").unlink()
    spoilt = bytearray(_bytes(wide_map, eid))
    spoilt[1000] ^= 1
    path.write_bytes(spoilt)
    fetch(bucket, remote, path, Patience(), came.append)
    assert sum(came) == remote.size
    assert path.read_bytes() == _bytes(wide_map, eid)


def test_bytes_that_were_spoilt_on_their_way_are_fetched_again(
    server: Server, wide_map: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket = open_bucket(source_of(server))
    remote = next(iter(list_recordings(bucket, source_of(server)).values()))
    path = tmp_path / f"{remote.eid}.h5"
    get, n = bucket_module._get, 0

    def spoilt(*args: Any) -> bytes:
        nonlocal n
        n += 1
        block = get(*args)
        return bytes(len(block)) if n == 2 else block

    monkeypatch.setattr(bucket_module, "_get", spoilt)
    came: list[int] = []
    fetch(bucket, remote, path, Patience(), came.append)
    assert path.read_bytes() == _bytes(wide_map, remote.eid)
    assert sum(came) == remote.size


def test_an_etag_that_is_no_md5(
    server: Server, wide_map: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Encrypted objects have ETags of another kind: twice the same contents are believed."""
    bucket = open_bucket(source_of(server))
    remote = next(iter(list_recordings(bucket, source_of(server)).values()))
    path = tmp_path / f"{remote.eid}.h5"
    monkeypatch.setattr(bucket_module, "agrees", lambda path, etag: False)
    fetch(bucket, remote, path, Patience())
    assert path.read_bytes() == _bytes(wide_map, remote.eid)


@pytest.mark.parametrize("part", [5 * MB, 8 * MB])
def test_an_object_that_was_put_in_parts(
    server: Server, wide_map: Path, tmp_path: Path, part: int
) -> None:
    eid, _ = recordings_in(wide_map, "all_units", "eval")
    body = _bytes(wide_map, eid)
    server.put_in_parts(eid, body, part)
    bucket = open_bucket(source_of(server))
    remote = list_recordings(bucket, source_of(server))[eid]
    n_parts = -(-len(body) // part)
    assert remote.etag.strip('"').endswith(f"-{n_parts}")
    path = tmp_path / f"{eid}.h5"
    fetch(bucket, remote, path, Patience())
    assert path.read_bytes() == body
    assert agrees(path, remote.etag) is True
    path.write_bytes(body[:-1] + b"x")
    assert agrees(path, remote.etag) is None


def test_etags_by_hand(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"abc")
    md5 = hashlib.md5(b"abc").hexdigest()
    assert agrees(path, f'"{md5}"') is True
    assert agrees(path, md5[::-1]) is False
    assert agrees(path, '"anything"') is None
    assert agrees(path, f"{md5}-x") is None
    twice = hashlib.md5(hashlib.md5(b"abc").digest()).hexdigest()
    assert agrees(path, f"{twice}-1") is True


def test_a_recording_that_is_gone_fails_alone(
    server: Server, wide_map: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone, there = recordings_in(wide_map, "all_units", "eval")
    listed = bucket_module.list_recordings

    def and_then_gone(*args: Any) -> Any:
        found = listed(*args)
        server.remove(gone)
        return found

    monkeypatch.setattr("ibl_mtm.ingest.sources.brainsets.list_recordings", and_then_gone)
    report = ingest(dataset(server), "x", tmp_path / "c.zarr", workers=1)
    assert list(report.failed) == [gone]
    assert "no longer there" in report.failed[gone]
    assert report.sessions[there].status == "ingested"


def test_a_bucket_that_does_not_answer(tmp_path: Path) -> None:
    nobody = Server("http://127.0.0.1:9")
    with pytest.raises(UserError, match=r"s3://brain-wide-bench/brainsets/.* cannot be read"):
        ingest(dataset(nobody), "x", tmp_path / "c.zarr")
    remote = bucket_module.Remote(key_of("all_units", "eval", "x"), 10, '"x"')
    with pytest.raises(UnreachableError, match="2 attempts"):
        fetch(open_bucket(source_of(nobody)), remote, tmp_path / "x.h5", Patience(attempts=2))


class OutOfOrder(ThreadingHTTPServer):
    """Answers everything with one status, and keeps what it was asked."""

    def __init__(self, status: int) -> None:
        super().__init__(("127.0.0.1", 0), _Refuser)
        self.status, self.asked = status, []


class _Refuser(BaseHTTPRequestHandler):
    server: OutOfOrder

    def do_GET(self) -> None:
        self.server.asked.append(self.command)
        self.send_response(self.server.status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def do_HEAD(self) -> None:
        self.do_GET()

    def log_message(self, *_: object) -> None:
        pass


@pytest.mark.parametrize(("status", "n_asked"), [(503, 2), (429, 2), (403, 1), (400, 1)])
def test_attempts_are_as_many_as_are_told(status: int, n_asked: int, tmp_path: Path) -> None:
    with OutOfOrder(status) as server:
        Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        nobody = Server(f"http://127.0.0.1:{server.server_port}")
        source = source_of(nobody, attempts=2)
        bucket = open_bucket(source)
        remote = bucket_module.Remote(key_of("all_units", "eval", "x"), 10, '"x"')
        patience = Patience(attempts=2)
        for ask in (
            lambda: list_recordings(bucket, source),
            lambda: describe(bucket, "x.tar", patience),
            lambda: fetch(bucket, remote, tmp_path / "x.h5", patience),
        ):
            server.asked.clear()
            with pytest.raises((UserError, SessionError)) as told:
                ask()
            assert len(server.asked) == n_asked
            assert str(status) in str(told.value)
            assert ("(2 attempts)" in str(told.value)) == (n_asked == 2)
        server.shutdown()


@pytest.mark.parametrize("scheme", ["s3", "gs"])
@pytest.mark.parametrize("anonymous", [True, False])
def test_options_of_a_bucket(scheme: str, anonymous: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[dict[str, Any]] = []

    def locate(url: str, options: dict[str, Any]) -> Any:
        asked.append(options)
        return real(url, options)

    real = bucket_module.locate
    monkeypatch.setattr(bucket_module, "locate", locate)
    about = {"kind": "brainsets", "path": f"{scheme}://b/x", "anonymous": anonymous}
    open_bucket(Dataset.model_validate({"source": about}).source)
    assert asked[0].get("skip_signature", False) == anonymous
    assert asked[0]["retry_config"] == {"max_retries": 0}


def test_a_bucket_without_such_recordings(server: Server, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no recording in .*selected_units.*check the path"):
        ingest(dataset(server, build="selected_units"), "x", tmp_path / "c.zarr")
