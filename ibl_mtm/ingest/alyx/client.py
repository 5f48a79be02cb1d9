"""Questions to an Alyx database over plain HTTP, without prompts and within time.

    with connect(source, folder) as alyx:
        alyx.session(eid)               # the answer to /sessions/EID
        alyx.tagged_datasets(eid)       # ids of the datasets that carry the source's tag
        alyx.tagged_sessions()          # eids of the sessions with a tagged insertion

Two kinds of question and one token are all that is needed. ONE's own client would keep its
parameters under the home folder, in clear text for all to read, wait for ever for an answer that
does not come, and give up at the first error of a server.
"""

import difflib
import ipaddress
import json
import os
import re
import urllib.parse
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import requests

from ibl_mtm import logs
from ibl_mtm.config.sources import AlyxSource
from ibl_mtm.disk.replace import replace_file
from ibl_mtm.errors import UserError
from ibl_mtm.ingest.retry import GaveUpError, Patience, Transient, check_status, retry

__all__ = ["Alyx", "AnswerError", "NotFoundError", "connect"]

_PUBLIC = "openalyx.internationalbrainlab.org"


class NotFoundError(Exception):
    """Alyx has no such thing."""


class AnswerError(Exception):
    """An answer that no Alyx gives; its message says to what."""


class Alyx:
    """A connection to a database; made by `connect`."""

    def __init__(self, source: AlyxSource, folder: Path) -> None:
        self._source = source
        self._patience = Patience(source.attempts, source.timeout)
        self._folder = folder
        self._tags: set[str] = set()  # that were met in answers
        self._http = requests.Session()
        self._http.auth = self._sign  # which no .netrc overrules
        self._token = self._kept_tokens().get(source.username) or self._log_in()
        logs.hide(self._token)

    def close(self) -> None:
        """Let go of the connection."""
        self._http.close()

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
        records = self._list(f"/datasets?{query}")
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
        records = self._list(f"/insertions?{query}")
        return sorted({str(record["session"])[-36:] for record in records})

    def _list(self, path: str) -> list[Any]:
        """The records of a list, of every page of it."""
        records: list[Any] = []
        query: str | None = path
        while query is not None:
            page = self._get(query)
            if isinstance(page, list):
                return page
            try:
                new, count, following = page["results"], int(page["count"]), page["next"]
                records += new
            except (TypeError, KeyError, ValueError):
                raise AnswerError(f"{self._source.url}{query}: no list of an Alyx") from None
            if not following or not new:
                if len(records) != count:
                    what = f"a list of {count} records that has {len(records)}"
                    raise AnswerError(f"{self._source.url}{query}: {what}")
                return records
            # Of the address only what asks for the page: the token goes nowhere else.
            query = f"{path.partition('?')[0]}?{urllib.parse.urlsplit(following).query}"
        return records

    def _get(self, path: str) -> Any:
        address = f"{self._source.url}{path}"

        def ask() -> Any:
            answer = self._http.get(address, timeout=self._patience.timeout)
            check_status(answer)
            if answer.status_code in (401, 403) and "token" in answer.text.lower():
                try:
                    self._token = self._log_in()
                except UserError as error:  # which it was not at the start
                    raise GaveUpError(f"the token had expired; {error}") from None
                raise Transient("the token had expired")
            if answer.status_code == 404:
                raise NotFoundError(f"{self._source.url} has no {path}")
            if not answer.ok:
                raise AnswerError(f"{address}: HTTP {answer.status_code} {answer.reason}")
            try:
                return answer.json()
            except ValueError:
                raise Transient("an answer that is cut short or no JSON") from None

        return retry(ask, self._patience, address)

    def _sign(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["Authorization"] = f"Token {self._token}"
        return request

    @property
    def _file(self) -> Path:
        return self._folder / "tokens.json"

    def _kept_tokens(self) -> dict[str, str]:
        """Tokens by user, as far as they can be read."""
        try:
            tokens = json.loads(self._file.read_text(encoding="utf-8"))
            return {str(user): str(token) for user, token in tokens.items()}
        except (OSError, ValueError, AttributeError):
            return {}

    def _log_in(self) -> str:
        token = self._ask_token()
        logs.hide(token)
        text = json.dumps(self._kept_tokens() | {self._source.username: token})

        def write(path: Path) -> None:
            path.touch(mode=0o600)
            path.write_text(text, encoding="utf-8")

        # A folder of downloads that is complete may be read-only: log in for this time only.
        with suppress(OSError):
            replace_file(self._file, write)
        return token

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
        For tokens, those of every database in a folder of its own; made readable by its owner
        alone.

    Raises
    ------
    UserError
        If the database cannot be reached or refuses the user, or there is no password.
    """
    _check_secrecy(source.url)
    own = folder / re.sub(r"[^\w.-]+", "-", source.url.split("://")[1])
    with suppress(OSError):  # where it may not be written, nothing is kept
        for path in (folder, own):
            path.mkdir(parents=True, exist_ok=True)
            path.chmod(0o700)
    with closing(Alyx(source, own)) as alyx:
        yield alyx


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
