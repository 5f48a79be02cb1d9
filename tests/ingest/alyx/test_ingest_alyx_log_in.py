"""Logging in to an Alyx database: what is asked for, what is kept, and where."""

import json
import os
import stat

import pytest
from alyx_server import PASSWORD, TOKEN
from remote_ingest import alyx, single
from server_faults import status

from ibl_mtm.config.dataset import Dataset
from ibl_mtm.errors import UserError
from ibl_mtm.ingest.run import ingest


def tokens(server, folder):
    """Where the tokens of a server are kept."""
    host = server.url.split("//")[1].replace(":", "-")
    return folder / ".ibl-mtm" / "alyx" / host / "tokens.json"


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
        assert [path.name for path in tokens] == ["tokens.json"]

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

    @pytest.mark.parametrize("kept", ["", '{"reader": "0a', "[]", '{"another": "user"}'])
    def test_kept_tokens_that_are_of_no_use_are_asked_for_anew(self, server, tmp_path, kept):
        source, path = alyx(server, path=tmp_path / "ONE"), tokens(server, tmp_path / "ONE")
        path.parent.mkdir(parents=True)
        path.write_text(kept)
        assert not ingest(Dataset(source=source), "x", tmp_path / "0.zarr", limit=1).failed
        assert sum("auth-token" in request for request in server.requests) == 1
        others = {} if "another" not in kept else {"another": "user"}
        assert json.loads(path.read_text()) == others | {"reader": TOKEN}

    def test_of_two_users_each_has_a_token(self, server, tmp_path):
        path = tokens(server, tmp_path / "ONE")
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps({"another": "0" * 40}))
        source = alyx(server, path=tmp_path / "ONE")
        assert not ingest(Dataset(source=source), "x", tmp_path / "0.zarr", limit=1).failed
        assert not any("0" * 40 in str(request) for request in server.requests)

    def test_a_netrc_does_not_overrule_the_token(self, server, tmp_path, monkeypatch):
        (tmp_path / "netrc").write_text("machine 127.0.0.1 login me password mine")
        (tmp_path / "netrc").chmod(0o600)
        monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
        # Nothing is downloaded: of the file server it may well be meant.
        report = ingest(Dataset(source=alyx(server)), "x", tmp_path / "cache.zarr", dry_run=True)
        assert not report.failed

    def test_nothing_of_the_process_is_changed_meanwhile(self, server, tmp_path, monkeypatch):
        """ONE's client was told its folder by HOME, and the mode of its files by the umask."""
        home, asked = os.environ.get("HOME"), []
        known = server.answer
        server.answer = lambda *a: (asked.append(os.environ.get("HOME")), known(*a))[1]
        monkeypatch.setattr(os, "umask", lambda mask: pytest.fail("the umask is changed"))
        ingest(Dataset(source=alyx(server)), "x", tmp_path / "cache.zarr", limit=1)
        assert set(asked) == {home}

    def test_the_token_goes_to_no_other_address_for_a_further_page(self, server, tmp_path):
        """Behind a proxy Alyx may name itself by another address."""
        server.page = 1
        known = server._paged
        elsewhere = "http://127.0.0.1:9"  # where nobody listens
        server._paged = lambda *a: {
            key: value.replace(server.url, elsewhere) if key == "next" and value else value
            for key, value in known(*a).items()
        }
        report = ingest(Dataset(source=alyx(server)), "x", tmp_path / "cache.zarr", limit=1)
        assert not report.failed

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
