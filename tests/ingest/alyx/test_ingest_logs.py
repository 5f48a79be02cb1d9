"""What an ingest prints: one document on standard output, and nothing secret anywhere."""

import json
import logging
import os
import subprocess
import sys

import pytest
from alyx_server import PASSWORD, TAG, TOKEN, USER
from server_faults import status

from ibl_mtm import logs

# As noisy as can be: a library with a log of its own on standard output, prints, a child process.
NOISY = """
import os, sys
import ibl_mtm.ingest.job as job
import ibl_mtm.ingest.retry as retry
retry._FIRST_WAIT = 0.01
run_job = job.run_job

def noisy(*arguments):
    import logging
    import ibllib
    from iblutil.util import setup_logger
    setup_logger("another_library", level="INFO").warning("noise of a log")
    logging.getLogger("ibllib").warning("noise of a log")
    print("noise of a print")
    os.system("echo noise of a child")
    return run_job(*arguments)

if __name__ == "__main__":
    import ibl_mtm.ingest.run
    ibl_mtm.ingest.run.run_job = noisy
    from ibl_mtm.cli import main
    main()
"""


def catalog(server, tmp_path):
    (tmp_path / "catalog.yaml").write_text(
        f"datasets:\n  mine:\n    source: {{kind: alyx, url: '{server.url}', username: {USER}, "
        f"tag: {TAG}, attempts: 2}}\n"
    )
    return tmp_path / "catalog.yaml"


def run(server, tmp_path, *arguments, program=("-m", "ibl_mtm.cli")):
    command = [*program, "--debug", "ingest", "mine", *arguments]
    options = ["--catalog", catalog(server, tmp_path), "--cache", tmp_path / "cache.zarr"]
    return subprocess.run(
        [sys.executable, *map(str, [*command, *options])],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        env=os.environ | {"IBL_MTM_PASSWORD": PASSWORD},
        timeout=240,
    )


def assert_nothing_secret(done):
    for secret in (TOKEN, PASSWORD, PASSWORD.split()[1]):
        assert secret not in done.stdout
        assert secret not in done.stderr


def test_standard_output_is_one_document_and_no_log_shows_the_token_or_the_password(
    server, tmp_path
):
    """At the level DEBUG libraries log what they send and receive."""
    (tmp_path / "noisy.py").write_text(NOISY)
    server.fail("/datasets?", status(503))
    server.fail("/auth-token", status(503), method="POST")
    done = run(server, tmp_path, "--limit", "1", "--json", program=(str(tmp_path / "noisy.py"),))
    assert done.returncode == 0, done.stderr
    assert "/sessions/" in done.stderr
    assert_nothing_secret(done)
    assert json.loads(done.stdout)["sessions"]
    for noise in ("log", "print", "child"):
        assert f"noise of a {noise}" in done.stderr
    assert "\x1b[" not in done.stderr


@pytest.mark.slow
def test_nor_does_one_of_a_worker_or_a_refused_log_in(server, tmp_path):
    done = run(server, tmp_path, "--workers", "2", "--json")
    assert done.returncode == 0, done.stderr
    assert_nothing_secret(done)
    assert len(json.loads(done.stdout)["sessions"]) == 3
    server.fail("/auth-token", status(400), float("inf"), method="POST")
    server.tokens = {"f" * 40}
    done = run(server, tmp_path, "--overwrite")
    assert "refused the user" in done.stderr
    assert_nothing_secret(done)


@pytest.fixture
def records(caplog):
    caplog.set_level(logging.DEBUG)
    factory = logging.getLogRecordFactory()
    logs.hide("open sesame")
    yield caplog
    logging.setLogRecordFactory(factory)


class TestRedacting:
    @pytest.mark.parametrize(
        "text",
        [
            "the password is open sesame",
            "{'Authorization': 'Token 0a1b2c3d4e5f'} open sesame",
            "https://me:open sesame@host/x",
            '{"token": "0a1b2c3d4e5f"}',
        ],
    )
    def test_of_whatever_looks_secret(self, records, text):
        logging.getLogger("a.library").debug("%s", text)
        assert "open sesame" not in records.text
        assert "0a1b2c3d4e5f" not in records.text

    def test_of_tracebacks(self, records):
        try:
            raise ValueError("open sesame")
        except ValueError:
            logging.getLogger("a.library").debug("failed", exc_info=True)
        assert "Traceback" in records.text
        assert "open sesame" not in records.text

    def test_leaves_the_rest(self, records):
        """Also a longer word that has the secret in it."""
        text = "GET https://open sesameseed.org/sessions?token_bucket=3"
        logging.getLogger("a.library").info(text)
        assert text in records.text
