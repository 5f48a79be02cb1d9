"""A loopback Alyx with its file server, for ONE's own client: what a simulated experiment holds.

    with AlyxServer(experiment_root) as server:
        server.fail("/sessions/", status(503), times=2)
        ...
    server.requests                     # what was asked, in order

Answers have the shape of those recorded from a real Alyx 3.6.1 (see `test_ingest_alyx_server`).
"""

import hashlib
import json
import threading
import urllib.parse
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pandas as pd
from one.alf.path import add_uuid_string, remove_uuid_string
from server_faults import Fault, Reply

USER, PASSWORD, TOKEN = "reader", "open sesame", "0123456789" * 4
TAG = "RepeatedSite"


@dataclass
class _Rule:
    part: str
    fault: Fault
    times: float
    method: str


class AlyxServer:
    """A database and its files; a context manager."""

    def __init__(self, root: Path, page: int = 250) -> None:
        self.root = root
        self.page = page
        self.requests: list[str] = []
        self.rules: list[_Rule] = []
        self.edit: Callable[[dict[str, Any]], dict[str, Any] | None] = lambda record: record
        self.tags: Callable[[str], list[str]] = lambda path: [f"2022_Q2_IBL_et_al_{TAG}", TAG]
        self.tokens = {TOKEN}
        self._lock = threading.Lock()
        self._read_tables()

    def __enter__(self) -> "AlyxServer":
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
        self._http.daemon_threads = True
        self._http.alyx = self  # type: ignore[attr-defined]
        self.url = f"http://127.0.0.1:{self._http.server_port}"
        threading.Thread(target=self._http.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._http.shutdown()
        self._http.server_close()

    def fail(self, part: str, fault: Fault, times: float = 1, method: str = "GET") -> None:
        """Answer so to the next requests whose path has this part."""
        self.rules.append(_Rule(part, fault, times, method))

    def rest_requests(self) -> list[str]:
        """Requests to the database, without the log-in."""
        return [r for r in self.requests if "/public/" not in r and "/auth-token" not in r]

    def file_requests(self) -> list[str]:
        """Paths of the files that were asked for, without the ids of their datasets."""
        paths = [r.split("/public/")[1] for r in self.requests if "/public/" in r]
        return [remove_uuid_string(Path(urllib.parse.unquote(p))).as_posix() for p in paths]

    def take_fault(self, method: str, path: str) -> Fault | None:
        with self._lock:
            self.requests.append(f"{method} {path}")
            for rule in self.rules:
                if rule.times > 0 and rule.method == method and rule.part in path:
                    rule.times -= 1
                    return rule.fault
        return None

    def _read_tables(self) -> None:
        self._sessions = pd.read_parquet(self.root / "sessions.pqt")
        self._datasets = pd.read_parquet(self.root / "datasets.pqt").reset_index()
        self._insertions = pd.read_parquet(self.root / "insertions.pqt").reset_index()
        self._md5 = {}
        for row in self._datasets.itertuples():
            path = self._folder(row.eid) / row.rel_path
            self._md5[row.id] = hashlib.md5(path.read_bytes()).hexdigest()

    def _folder(self, eid: str) -> Path:
        row = self._sessions.loc[eid]
        return self.root / row.lab / "Subjects" / row.subject / str(row.date) / f"{row.number:03d}"

    def session(self, eid: str) -> dict[str, Any]:
        row = self._sessions.loc[eid]
        own = self._insertions[self._insertions["eid"] == eid]
        return {
            **self._session_info(eid),
            "users": ["root"],
            "location": None,
            "procedures": [],
            "type": "Experiment",
            "end_time": None,
            "narrative": "",
            "parent_session": None,
            "n_correct_trials": None,
            "n_trials": None,
            "url": f"{self.url}/sessions/{eid}",
            "extended_qc": None,
            "qc": "NOT_SET",
            "wateradmin_session_related": [],
            "data_dataset_session_related": list(self._session_datasets(eid)),
            "auto_datetime": f"{row.date}T10:00:00",
            "json": None,
            "probe_insertion": [self._insertion(insertion) for insertion in own.itertuples()],
            "field_of_view": [],
            "notes": [],
        }

    def _session_info(self, eid: str) -> dict[str, Any]:
        row = self._sessions.loc[eid]
        return {
            "subject": row.subject,
            "start_time": f"{row.date}T10:11:12.345678",
            "number": int(row.number),
            "lab": row.lab,
            "id": eid,
            "projects": [],
            "task_protocol": "",
        }

    def _insertion(self, row: Any) -> dict[str, Any]:
        return {
            "id": row.id,
            "session": row.eid,
            "model": row.model,
            "session_info": self._session_info(row.eid),
            "name": row.name,
            "json": {"qc": "PASS"},
            "serial": row.serial,
            "auto_datetime": "2026-11-20T08:49:23.959320",
            "chronic_insertion": None,
            "datasets": [],
        }

    def _session_datasets(self, eid: str) -> Iterator[dict[str, Any]]:
        for row in self._datasets[self._datasets["eid"] == eid].itertuples():
            path = Path(row.rel_path)
            revision = next((p.strip("#") for p in path.parts if p.startswith("#")), "")
            place = self._folder(eid).relative_to(self.root) / path
            record = {
                "id": row.id,
                "name": path.name,
                "dataset_type": path.stem,
                "data_url": f"{self.url}/public/{add_uuid_string(place, row.id).as_posix()}",
                "url": f"{self.url}/datasets/{row.id}",
                "file_size": int(row.file_size),
                "hash": self._md5[row.id],
                "version": "1",
                "collection": "/".join(p for p in path.parts[:-1] if not p.startswith("#")),
                # The database's own id of the revision, not its name.
                "revision": str(uuid.uuid5(uuid.NAMESPACE_DNS, revision)) if revision else "",
                "default_revision": str(bool(row.default_revision)),
                "qc": "NOT_SET",
            }
            edited = self.edit(record)
            if edited is not None:
                yield edited

    def tagged(self, eid: str, tag: str) -> list[dict[str, Any]]:
        found = []
        for row in self._datasets[self._datasets["eid"] == eid].itertuples():
            tags = self.tags(row.rel_path)
            if any(tag in each for each in tags):
                url = f"{self.url}/datasets/{row.id}"
                found.append({"url": url, "name": Path(row.rel_path).name, "tags": tags})
        return found

    def insertions(self, tag: str) -> list[dict[str, Any]]:
        with_tag = {
            row.eid for row in self._datasets.itertuples() if tag in self.tags(row.rel_path)
        }
        return [self._insertion(r) for r in self._insertions.itertuples() if r.eid in with_tag]

    def answer(self, path: str, query: dict[str, str]) -> Any:
        """What the database says; None where it has no such thing."""
        parts = path.strip("/").split("/")
        if parts[0] == "sessions" and len(parts) == 2 and parts[1] in self._sessions.index:
            return self.session(parts[1])
        if path == "/datasets":
            return self._paged(path, query, self.tagged(query["session"], query["tag"]))
        if path == "/insertions":
            field, tag = query["django"].split(",", 1)
            assert field == "datasets__tags__name"
            return self._paged(path, query, self.insertions(tag))
        return None

    def _paged(self, path: str, query: dict[str, str], records: list[Any]) -> dict[str, Any]:
        start = int(query.get("offset", 0))
        stop = start + self.page
        more = urllib.parse.urlencode(query | {"limit": self.page, "offset": stop})
        return {
            "count": len(records),
            "next": f"{self.url}{path}?{more}" if stop < len(records) else None,
            "previous": None,
            "results": records[start:stop],
        }

    def file(self, path: str) -> bytes | None:
        """A file, which is named by its place and the id of its dataset."""
        place = self.root / remove_uuid_string(Path(path))
        return place.read_bytes() if place.is_file() and place != self.root / path else None


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # Or a body waits for the client's receipt of its header.
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        self._handle(self._get)

    def do_POST(self) -> None:
        sent = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
        self._handle(lambda: self._log_in(dict(urllib.parse.parse_qsl(sent))))

    @property
    def alyx(self) -> AlyxServer:
        return self.server.alyx  # type: ignore[attr-defined, no-any-return]

    def _handle(self, reply: Callable[[], Reply]) -> None:
        fault = self.alyx.take_fault(self.command, self.path)
        if fault is not None:
            fault(self, reply)
        else:
            self.send(reply())

    def _get(self) -> Reply:
        address = urllib.parse.urlsplit(self.path)
        path = urllib.parse.unquote(address.path)
        if path.startswith("/public/"):
            if "Authorization" in self.headers:
                return 400, {}, b"a token has no business here"
            content = self.alyx.file(path.removeprefix("/public/"))
            return (404, {}, b"") if content is None else (200, {}, content)
        if self.headers.get("Authorization", "").removeprefix("Token ") not in self.alyx.tokens:
            return _json(403, {"detail": "Invalid token."})
        answer = self.alyx.answer(path, dict(urllib.parse.parse_qsl(address.query)))
        if answer is None:
            return _json(404, {"detail": "No Session matches the given query."})
        return _json(200, answer)

    def _log_in(self, sent: dict[str, str]) -> Reply:
        if sent == {"username": USER, "password": PASSWORD}:
            return _json(200, {"token": next(iter(self.alyx.tokens))})
        refused = "Unable to log in with provided credentials."
        return _json(400, {"non_field_errors": [refused], "status_code": 400})

    def send(self, reply: Reply, end: int | None = None) -> None:
        code, headers, body = reply
        self.send_response(code)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[:end])
        self.wfile.flush()

    def log_message(self, *_: object) -> None:
        pass


def _json(code: int, document: Any) -> Reply:
    return code, {"Content-Type": "application/json"}, json.dumps(document).encode()
