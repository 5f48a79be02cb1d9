"""Where a catalog may have a password sent, and what must not stand in it."""

from pathlib import Path

import pytest

from ibl_mtm.config.catalog import load_catalog
from ibl_mtm.config.sources import AlyxSource
from ibl_mtm.config.yaml_settings import read_settings
from ibl_mtm.errors import UserError
from ibl_mtm.training.settings import RunSettings

OWN = "https://alyx.example.org"
KNOWN = "https://openalyx.internationalbrainlab.org"


def write_catalog(folder: Path, url: str) -> Path:
    path = folder / "data_catalog.yaml"
    path.write_text(
        "datasets:\n  mine:\n"
        f"    source: {{kind: alyx, url: '{url}', username: me, tag: T, password_env: SECRET}}\n"
    )
    return path


def test_a_catalog_that_lies_about_sends_no_password_to_a_new_address(tmp_path, monkeypatch):
    path = write_catalog(tmp_path, OWN)
    below = tmp_path / "a" / "b"
    below.mkdir(parents=True)
    monkeypatch.chdir(below)
    with pytest.raises(UserError, match=rf"in SECRET sent to {OWN}; .* --catalog {path}"):
        load_catalog().dataset("mine")
    assert load_catalog(path).dataset("mine").source.url == OWN
    assert load_catalog().dataset("mine", offline=True).source.url == OWN


def test_but_to_an_address_of_the_shipped_catalog(tmp_path, monkeypatch):
    write_catalog(tmp_path, KNOWN)
    monkeypatch.chdir(tmp_path)
    assert load_catalog().dataset("mine").source.url == KNOWN


def test_the_shipped_catalog_is_trusted_from_anywhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert load_catalog().dataset("repeated-site").source.url == KNOWN


@pytest.mark.parametrize(
    "url", ["https://me:open-sesame@alyx.org", "ftp://me:open-sesame@alyx.org"]
)
@pytest.mark.parametrize("key", ["url", "data_server"])
def test_a_password_inside_of_an_address_is_refused_and_not_shown(tmp_path, url, key):
    text = f"url: '{OWN}', data_server: '{url}'" if key == "data_server" else f"url: '{url}'"
    path = tmp_path / "catalog.yaml"
    path.write_text(
        f"datasets:\n  mine:\n    source: {{kind: alyx, {text}, username: me, tag: T}}\n"
    )
    with pytest.raises(UserError, match="no user and password inside of an address") as caught:
        load_catalog(path)
    assert "open-sesame" not in str(caught.value)
    assert "line 3" in str(caught.value)


@pytest.mark.parametrize("encoding", ["latin-1", "utf-16"])
def test_files_in_other_encodings_are_told_so(tmp_path, encoding):
    path = tmp_path / "c.yaml"
    path.write_bytes("datasets: {}  # Größe\n".encode(encoding))
    with pytest.raises(
        UserError, match=r"c.yaml: not UTF-8 \(byte 0x.. at \d+\); save it as UTF-8"
    ):
        load_catalog(path)
    with pytest.raises(UserError, match="not UTF-8"):
        read_settings(path, RunSettings)


@pytest.mark.parametrize("ending", ["\n", "\r\n"])
def test_utf_8_with_a_byte_order_mark_is_read(tmp_path, ending):
    path = tmp_path / "c.yaml"
    path.write_bytes(f"datasets: {{}}  # Größe{ending}".encode("utf-8-sig"))
    assert load_catalog(path).datasets == {}


def test_more_units_than_can_be_simulated_are_refused_with_the_line(tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text("datasets:\n  x:\n    source: {kind: simulated, units: 60000}\n")
    with pytest.raises(UserError, match=r"line 3: .*units: .*less than or equal to 50000"):
        load_catalog(path)


def test_addresses_of_a_source():
    source = AlyxSource(kind="alyx", url=f"{OWN}/", username="me", tag="T")
    assert source.url == OWN
