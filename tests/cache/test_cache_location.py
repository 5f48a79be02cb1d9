"""Which folder, bucket or web server a path or URL names."""

import subprocess
import sys
from pathlib import Path

import pytest
from obstore.store import GCSStore, HTTPStore, S3Store

from ibl_mtm.cache.location import RemotePath, local_path, locate, read_bytes
from ibl_mtm.errors import UserError


@pytest.mark.parametrize("path", ["cache.zarr", "/data/cache.zarr", "odd:name/c d#1.zarr"])
def test_a_path_is_a_path(path: str) -> None:
    assert locate(path) == locate(Path(path)) == local_path(path) == Path(path)


def test_a_file_url_is_a_path(tmp_path: Path) -> None:
    folder = tmp_path / "of a name"
    assert locate(folder.as_uri()) == local_path(folder.as_uri()) == folder


@pytest.mark.parametrize(
    ("url", "store"),
    [
        ("s3://bucket/some/cache.zarr", S3Store),
        ("gs://bucket/some/cache.zarr", GCSStore),
        ("https://data.example.org/some/cache.zarr", HTTPStore),
        ("http://data.example.org/some/cache.zarr/", HTTPStore),
    ],
)
def test_a_url_is_routed_by_its_scheme(url: str, store: type) -> None:
    root = locate(url)
    assert isinstance(root, RemotePath)
    assert isinstance(root.store, store)
    assert str(root) == url.rstrip("/")
    assert (root.name, root.stem) == ("cache.zarr", "cache")
    below = root / "eid" / "zarr.json"
    assert str(below) == f"{root}/eid/zarr.json"
    assert (below.name, below.key) == ("zarr.json", "eid/zarr.json")
    assert locate(below) is below


def test_what_a_bucket_wants_to_know() -> None:
    url = "s3://bucket/a/cache.zarr"
    options = {"endpoint": "http://minio.lab:9000", "region": "eu-west-1"}
    root = locate(url, options)
    assert isinstance(root, RemotePath)
    assert root.store.config.items() >= options.items()
    assert (root.store.config["bucket"], root.store.prefix) == ("bucket", "a/cache.zarr")


def test_passwords_are_not_shown() -> None:
    root = locate("https://me:secret@data.example.org/cache.zarr")
    assert str(root / "x") == "https://data.example.org/cache.zarr/x"
    keys = {"access_key_id": "id", "secret_access_key": "secret"}
    assert "secret" not in f"{root!r} {locate('s3://bucket/cache.zarr', keys)!r}"


@pytest.mark.parametrize(
    ("path", "options", "match"),
    [
        ("ftp://host/cache.zarr", None, r"ftp://host/cache\.zarr: expected a path, or file://, s3"),
        ("https://host/cache.zarr?version=2", None, "ends with its folder"),
        ("s3://bucket/cache.zarr", {"key": "id"}, "'key' is not valid for store 'S3'"),
        ("https://host/cache.zarr", {"anon": True}, "unexpected keyword argument 'anon'"),
        ("cache.zarr", {"region": "eu-west-1"}, "storage_options are for URLs"),
    ],
)
def test_what_has_no_meaning_is_refused(path: str, options: dict | None, match: str) -> None:
    with pytest.raises(UserError, match=match) as caught:
        locate(path, options)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "how"),
    [
        ("s3://bucket/c.zarr", "aws s3 sync cache.zarr s3://bucket/c.zarr"),
        ("gs://bucket/c.zarr", "gcloud storage rsync --recursive cache.zarr gs://bucket/c.zarr"),
        ("https://host/c.zarr", "rclone copy"),
    ],
)
def test_a_url_is_not_written_to(url: str, how: str) -> None:
    with pytest.raises(UserError, match="can only be read") as caught:
        local_path(url)
    assert how in str(caught.value)
    with pytest.raises(UserError, match="can only be read"):
        local_path(locate(url))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="none"):
        read_bytes(tmp_path / "none")


def test_without_obstore(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "obstore.store", None)
    with pytest.raises(UserError, match=r"needs the package obstore: pip install 'ibl-mtm\[remote"):
        locate("s3://bucket/cache.zarr")
    assert locate("cache.zarr") == Path("cache.zarr")


def test_a_path_imports_nothing_for_urls() -> None:
    code = (
        "import sys, ibl_mtm.cache.check, ibl_mtm.cache.location as location\n"
        "location.locate('cache.zarr'); location.local_path('cache.zarr')\n"
        "assert not [name for name in sys.modules if name.startswith('obstore')]"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
