"""Logging in to an Alyx database: what is asked for, what is kept, and where."""

import os
import stat

import pytest
from alyx_server import PASSWORD, TOKEN
from remote_ingest import alyx, single
from server_faults import status

from ibl_mtm.config.dataset import Dataset
from ibl_mtm.errors import UserError
from ibl_mtm.ingest.run import ingest


class TestTheLogIn:
    def test_token_and_parameters_are_the_owners_alone(self, server, tmp_path):
        ingest(Dataset(source=alyx(server)), "x", tmp_path / "cache.zarr", limit=1)
        folder = tmp_path / "cache.one" / ".ibl-mtm" / "alyx"
        assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o700}
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        kept = [path for path in folder.rglob("*") if path.is_file() and TOKEN in path.read_text()]
        assert kept
        assert all(stat.S_IMODE(path.stat().st_mode) == 0o600 for path in kept)

    def test_the_password_is_kept_nowhere_and_the_home_folder_left_alone(
        self, server, tmp_path, monkeypatch
    ):
        home = tmp_path / "home"
        home.mkdir()
        monkeypatch.setenv("HOME", str(home))
        ingest(Dataset(source=alyx(server)), "x", tmp_path / "cache.zarr", limit=1)
        assert os.environ["HOME"] == str(home)
        assert not (home / ".one").exists()
        assert not (home / "Downloads").exists()
        files = [path for path in tmp_path.rglob("*") if path.is_file()]
        secrets = [path for path in files if PASSWORD.encode() in path.read_bytes()]
        assert secrets == []
        tokens = [path for path in files if TOKEN.encode() in path.read_bytes()]
        assert {path.parent.name for path in tokens} == {".one"}

    def test_once_for_many_ingests(self, server, tmp_path, monkeypatch):
        for number in range(2):
            source = alyx(server, path=tmp_path / "ONE")
            ingest(Dataset(source=source), "x", tmp_path / f"{number}.zarr", limit=1)
            monkeypatch.delenv("IBL_MTM_PASSWORD", raising=False)
        assert sum("auth-token" in request for request in server.requests) == 1

    def test_again_when_the_token_has_expired(self, server, experiment, tmp_path):
        dataset = single(server, experiment, path=tmp_path / "ONE")
        ingest(dataset, "x", tmp_path / "0.zarr")
        server.tokens = {"f" * 40}
        report = ingest(dataset, "x", tmp_path / "1.zarr")
        assert not report.failed
        assert sum("auth-token" in request for request in server.requests) == 2

    def test_parameters_cut_short_are_made_anew(self, server, tmp_path):
        source = alyx(server, path=tmp_path / "ONE")
        ingest(Dataset(source=source), "x", tmp_path / "0.zarr", limit=1)
        for path in (tmp_path / "ONE" / ".ibl-mtm" / "alyx").glob("*/.one/*"):
            path.write_text(path.read_text()[:20])
        assert not ingest(Dataset(source=source), "x", tmp_path / "1.zarr", limit=1).failed

    @pytest.mark.parametrize(
        ("password", "message"),
        [
            (None, "no password for reader at .*: set the environment variable IBL_MTM_PASSWORD"),
            ("guess", "refused the user reader .password from IBL_MTM_PASSWORD"),
        ],
    )
    def test_without_the_password(self, server, tmp_path, monkeypatch, password, message):
        monkeypatch.delenv("IBL_MTM_PASSWORD")
        if password:
            monkeypatch.setenv("IBL_MTM_PASSWORD", password)
        with pytest.raises(UserError, match=message):
            ingest(Dataset(source=alyx(server)), "x", tmp_path / "cache.zarr")
        assert not (tmp_path / "cache.zarr").exists()

    def test_where_there_is_no_alyx(self, server, tmp_path):
        server.fail("/auth-token", status(404), method="POST")
        with pytest.raises(UserError, match=r"is no Alyx database \(HTTP 404\)"):
            ingest(Dataset(source=alyx(server)), "x", tmp_path / "cache.zarr")

    def test_where_it_has_moved_to(self, server, tmp_path):
        moved = status(301, Location="https://alyx.example.org/auth-token")
        server.fail("/auth-token", moved, method="POST")
        with pytest.raises(UserError, match=r"redirects to https://alyx\.example\.org; if that is"):
            ingest(Dataset(source=alyx(server)), "x", tmp_path / "cache.zarr")

    @pytest.mark.parametrize("url", ["http://alyx.example.org", "http://10.0.0.1:8000"])
    def test_no_password_over_plain_http(self, server, tmp_path, url):
        source = alyx(server).model_copy(update={"url": url})
        with pytest.raises(UserError, match=f"not sent unencrypted; write https{url[4:]}"):
            ingest(Dataset(source=source), "x", tmp_path / "cache.zarr")

    def test_a_token_that_is_none_is_not_taken(self, server, tmp_path):
        def reply(handler, answer):
            handler.send((200, {}, b'{"token": null}'))

        server.fail("/auth-token", reply, float("inf"), method="POST")
        with pytest.raises(UserError, match="cannot reach Alyx"):
            ingest(Dataset(source=alyx(server, attempts=1)), "x", tmp_path / "cache.zarr")

    def test_a_tag_that_nothing_carries(self, server, tmp_path):
        with pytest.raises(UserError, match=r"no session of .* has the tag 'Repeated'"):
            ingest(Dataset(source=alyx(server, tag="Repeated")), "x", tmp_path / "cache.zarr")
