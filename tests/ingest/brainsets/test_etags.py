"""ETags of objects that were put in parts: the digest of the parts' digests, and their number."""

import hashlib
from pathlib import Path

import pytest

from ibl_mtm.ingest.brainsets.etag import agrees

MB = 1 << 20


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eleven mebibytes and a byte, no two of which are alike."""
    path = tmp_path_factory.mktemp("etag") / "x"
    path.write_bytes(b"".join(bytes([n]) * MB for n in range(11)) + b"z")
    return path


def etag(path: Path, size: int) -> str:
    data = path.read_bytes()
    parts = [hashlib.md5(data[at : at + size]).digest() for at in range(0, len(data), size)]
    return f'"{hashlib.md5(b"".join(parts)).hexdigest()}-{len(parts)}"'


@pytest.mark.parametrize("mb", [5, 8, 10, 16, 100])
def test_parts_of_usual_sizes_are_recognised(path: Path, mb: int) -> None:
    assert agrees(path, etag(path, mb * MB)) is True


def test_of_other_sizes_nothing_is_known(path: Path) -> None:
    assert agrees(path, etag(path, 7 * MB)) is None
    assert agrees(path, etag(path, 5 * MB).replace("-3", "-4")) is None
    spoilt = etag(path, 5 * MB)
    spoilt = spoilt.replace(spoilt[1], "0" if spoilt[1] != "0" else "1", 1)
    assert agrees(path, spoilt) is None
    whole = hashlib.md5(path.read_bytes()).hexdigest()
    assert agrees(path, whole) is True
    assert agrees(path, whole[:-1] + ("0" if whole[-1] != "0" else "1")) is False
