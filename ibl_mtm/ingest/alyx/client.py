"""Questions to an Alyx database through ONE's own client, without prompts and within time.

    with connect(source, folder) as alyx:
        alyx.session(eid)               # the answer to /sessions/EID
        alyx.tagged_datasets(eid)       # ids of the datasets that carry the source's tag
        alyx.tagged_sessions()          # eids of the sessions with a tagged insertion

ONE keeps its parameters and tokens under the home folder, in clear text for all to read: here
they lie in a folder that is nobody else's. It waits for ever for an answer that does not come,
and gives up at the first error of a server: here every question has an end and several attempts.
"""

import difflib
import errno
import functools
import ipaddress
import json
import os
import re
import shutil
import threading
import urllib.parse
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import one.params
import requests
from filelock import FileLock
from one.webclient import AlyxClient

from ibl_mtm import logs
from ibl_mtm.config.sources import AlyxSource
from ibl_mtm.errors import UserError
from ibl_mtm.ingest.alyx.retry import (
    GaveUpError,
    Patience,
    Transient,
    check_status,
    retry,
    transient_faults,
)
from ibl_mtm.ingest.files import one_line

__all__ = ["Alyx", "AnswerError", "NotFoundError", "connect"]

_home_lock = threading.RLock()

_PUBLIC = "openalyx.internationalbrainlab.org"


class NotFoundError(Exception):
    """Alyx has no such thing."""


class AnswerError(Exception):
    """An answer that no Alyx gives; its message says to what."""


class _StaleTokenError(Exception):
    """The token that was kept is not accepted any more."""


class _Client(AlyxClient):
    """ONE's client with an end to its waiting; `Alyx` does the retrying."""

    max_retry_attempts = 0
    patience = Patience()

    @functools.wraps(AlyxClient._generic_request)
    def _generic_request(self, reqfunction: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        @functools.wraps(reqfunction)
        def request(*args: Any, **kwargs: Any) -> requests.Response:
            response = reqfunction(*args, timeout=self.patience.timeout, **kwargs)
            check_status(response)
            # Left to itself ONE would log in without a password here.
            if response.status_code in (401, 403) and "token" in response.text.lower():
                raise _StaleTokenError(response.text)
            return response

        return super()._generic_request(request, *args, **kwargs)


class Alyx:
    """A connection to a database; made by `connect`."""

    def __init__(self, source: AlyxSource, folder: Path) -> None:
        self._source = source
        self._patience = Patience(source.attempts, source.timeout)
        self._folder = folder
        self._tags: set[str] = set()  # that were met in answers
        self._client = self._log_in()

    def session(self, eid: str) -> dict[str, Any]:
        """All that Alyx knows of a session: where it is, its datasets, its insertions.

        Raises
        ------
        NotFoundError
            If there is no such session.
        AnswerError
            If the answer is none.
        GaveUpError
            If no attempt was answered.
        """
        answer = self._get(f"/sessions/{eid}")
        if not isinstance(answer, dict) or "subject" not in answer:
            raise AnswerError(f"{self._source.url}/sessions/{eid}: no description of a session")
        return answer

    def tagged_datasets(self, eid: str) -> set[str]:
        """Ids of a session's datasets that carry the source's tag."""
        tag = self._source.tag
        query = urllib.parse.urlencode({"session": eid, "tag": tag})
        records = self._get(f"/datasets?{query}")
        self._tags.update(name for record in records for name in record["tags"])
        # Alyx also answers with tags that only contain this one.
        return {record["url"].split("/")[-1] for record in records if tag in record["tags"]}

    def check_tag(self) -> None:
        """Refuse a tag that no insertion's datasets carry: it is misspelt, or was renamed.

        Raises
        ------
        UserError
            Names a tag that is meant instead, if one was met.
        """
        tag = str(self._source.tag)
        if self.tagged_sessions():
            return
        close = difflib.get_close_matches(tag, self._tags, n=1, cutoff=0.4)
        hint = f"; did you mean '{close[0]}'?" if close else ""
        raise UserError(f"{self._source.url} has no dataset with the tag '{tag}'{hint}")

    def tagged_sessions(self) -> list[str]:
        """Eids of the sessions with an insertion of which a dataset carries the source's tag."""
        query = urllib.parse.urlencode({"django": f"datasets__tags__name,{self._source.tag}"})
        records = self._get(f"/insertions?{query}")
        return sorted({str(record["session"])[-36:] for record in records})

    def _get(self, path: str) -> Any:
        def ask() -> Any:
            try:
                answer = self._client.get(path)
                return answer if isinstance(answer, dict) else list(answer)  # of every page
            except requests.HTTPError as error:
                if error.response is not None and error.response.status_code == 404:
                    raise NotFoundError(f"{self._source.url} has no {path}") from None
                raise AnswerError(f"{self._source.url}{path}: {error}") from None
            except (json.JSONDecodeError, UnicodeDecodeError):
                raise Transient("an answer that is cut short or no JSON") from None
            except _StaleTokenError:
                try:
                    self._client = self._log_in(forget=True)
                except UserError as error:  # which it was not at the start
                    raise GaveUpError(f"the token had expired; {error}") from None
                raise Transient("the token had expired") from None
            except (NotFoundError, GaveUpError, Transient, *transient_faults):
                raise
            except Exception as error:
                # Such as a list that counts more than it holds: what ONE then raises is its own.
                what = f"{type(error).__name__}: {one_line(error)}"
                raise AnswerError(
                    f"{self._source.url}{path}: no answer of an Alyx ({what})"
                ) from error

        return retry(ask, self._patience, f"{self._source.url}{path}")

    def _log_in(self, forget: bool = False) -> _Client:
        source = self._source
        with _as_home(self._folder):
            parameters = self._parameters()
            tokens = dict(getattr(parameters, "TOKEN", None) or {})
            for kept in tokens.values():
                logs.hide(str(kept["token"]))  # ONE logs it with every request
            if forget or source.username not in tokens:
                tokens[source.username] = {"token": self._ask_token()}
                logs.hide(tokens[source.username]["token"])
                one.params.save(parameters.set("TOKEN", tokens), source.url)
            client = _Client(
                base_url=source.url,
                username=None,
                cache_dir=self._folder,
                silent=True,
                cache_rest=None,
            )
            client.patience = self._patience
            client.authenticate(username=source.username)
        return client

    def _parameters(self) -> Any:
        """ONE's parameters for this database, set up anew if they cannot be read."""
        source = self._source

        def read() -> Any:
            return one.params.get(client=source.url, silent=True, username=source.username)

        def set_up() -> None:
            one.params.setup(
                client=source.url, silent=True, username=source.username, cache_dir=self._folder
            )

        known = one.params.get_params_dir()
        if not known.is_dir():
            set_up()
        try:
            parameters = read()
        except (ValueError, AttributeError, KeyError):
            shutil.rmtree(known)  # cut short by a process that died
            set_up()
            parameters = read()
        if source.data_server is not None:
            parameters = parameters.set("HTTP_DATA_SERVER", source.data_server)
        return parameters

    def _ask_token(self) -> str:
        source = self._source
        password = os.environ.get(source.password_env)
        if not password:
            hint = "; the IBL publishes it with its data" if _PUBLIC in source.url else ""
            raise UserError(
                f"no password for {source.username} at {source.url}: set the environment variable "
                f"{source.password_env}{hint}"
            )
        logs.hide(password)

        def ask() -> str:
            answer = requests.post(
                f"{source.url}/auth-token",
                data={"username": source.username, "password": password},
                timeout=source.timeout,
                allow_redirects=False,
            )
            check_status(answer)
            if answer.status_code in (400, 401, 403):
                raise UserError(
                    f"{source.url} refused the user {source.username} "
                    f"(password from {source.password_env})"
                )
            try:
                token = answer.json()["token"]
                if not token or not isinstance(token, str):
                    raise TypeError("no token")
                return token
            except (ValueError, KeyError, TypeError):
                if answer.status_code == 200:
                    raise Transient("an answer that is cut short or no JSON") from None
                elsewhere = answer.headers.get("Location")
                if answer.is_redirect and elsewhere:
                    elsewhere = elsewhere.removesuffix("/").removesuffix("/auth-token")
                    raise UserError(
                        f"{source.url} redirects to {elsewhere}; if that is the database, write "
                        "so in the catalog"
                    ) from None
                raise UserError(
                    f"{source.url} is no Alyx database (HTTP {answer.status_code})"
                ) from None

        try:
            return retry(ask, self._patience, f"{source.url}/auth-token")
        except GaveUpError as error:
            raise UserError(f"cannot reach Alyx: {error}") from None


@contextmanager
def connect(source: AlyxSource, folder: Path) -> Iterator[Alyx]:
    """Log in to a database, with the token kept from the last time if there is one.

    Parameters
    ----------
    source
        Which database, as whom.
    folder
        For ONE's parameters and tokens, of every database in a folder of its own; made readable
        by its owner alone.

    Raises
    ------
    UserError
        If the database cannot be reached or refuses the user, or there is no password.
    """
    _check_secrecy(source.url)
    # Where ONE knows another database already, it would put this one's files into the home folder.
    own = folder / re.sub(r"[^\w.-]+", "-", source.url.split("://")[1])
    with ExitStack() as stack:
        try:
            for path in (folder, own):
                path.mkdir(parents=True, exist_ok=True)
                path.chmod(0o700)
            (own / "parameters.lock").touch(mode=0o600)
        except OSError as error:
            if error.errno not in (errno.EROFS, errno.EACCES, errno.EPERM):
                raise
            # A folder of downloads that is complete may be read-only: log in for this time only.
            own = Path(stack.enter_context(TemporaryDirectory(prefix="ibl-mtm-alyx-")))
        yield Alyx(source, own)


def _check_secrecy(url: str) -> None:
    """Refuse to send a password or a token where others could read it on the way."""
    address = urllib.parse.urlsplit(url)
    host = address.hostname or ""
    try:
        here = ipaddress.ip_address(host).is_loopback
    except ValueError:
        here = host == "localhost" or host.endswith(".localhost")
    if address.scheme != "https" and not here:
        raise UserError(
            f"{url}: a password is not sent unencrypted; write https://{address.netloc}{address.path}"
        )


@contextmanager
def _as_home(folder: Path) -> Iterator[None]:
    """Let ONE take a folder for the home folder, in which it has its parameters.

    There is no other way to tell it. What it writes there is for the owner alone.
    """
    with _home_lock, FileLock(folder / "parameters.lock"):
        names = ("HOME", "USERPROFILE", "APPDATA")
        before = {name: os.environ.get(name) for name in names}
        mask = os.umask(0o077)
        os.environ.update(dict.fromkeys(names, str(folder)))
        try:
            yield
        finally:
            os.umask(mask)
            for name, value in before.items():
                if value is None:
                    del os.environ[name]
                else:
                    os.environ[name] = value
