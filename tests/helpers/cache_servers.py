"""Servers for tests, on this machine: a plain web server that counts, and an object store.

with serve(folder) as server:
    open_cache(f"{server.url}/cache.zarr")
    server.requests                          # ["GET /cache.zarr/zarr.json", ...]
with serve_s3(folder, "bucket") as options:
    open_cache("s3://bucket/cache.zarr", options)
"""

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any, Literal

import boto3
from moto.server import ThreadedMotoServer

__all__ = ["WebServer", "serve", "serve_s3"]


class WebServer(ThreadingHTTPServer):
    """Serves the files of a folder, and nothing else: no lists of what is in it.

    Attributes
    ----------
    requests
        What was asked for, in order: method and path.
    fault
        A status with which to answer everything from now on; 0: as usual.
    delay
        Seconds to wait before each answer.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), partial(_Handler, directory=str(folder)))
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.requests: list[str] = []
        self.fault = 0
        self.delay = 0.0
        self.stopped = False

    def stop(self) -> None:
        """Answer nothing from now on, not even on connections that are open."""
        self.stopped = True
        self.shutdown()
        self.server_close()


class _Handler(SimpleHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # Or a header waits for the answer's body, and that for the client's receipt.
    disable_nagle_algorithm = True
    server: WebServer

    def do_GET(self) -> None:
        self.server.requests.append(f"{self.command} {self.path}")
        time.sleep(self.server.delay)
        if self.server.stopped:
            self.close_connection = True
        elif self.server.fault:
            self.send_error(self.server.fault)
        else:
            super().do_GET()

    def end_headers(self) -> None:
        # Google's servers send one with everything.
        self.send_header("ETag", '"etag"')
        super().end_headers()

    def list_directory(self, path: Any) -> None:
        self.send_error(404)

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def serve(folder: Path) -> Iterator[WebServer]:
    """A web server for the files of a folder."""
    server = WebServer(folder)
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.stop()
        thread.join()


@contextmanager
def serve_s3(
    folder: Path, bucket: str, acl: Literal["private", "public-read"]
) -> Iterator[dict[str, Any]]:
    """An S3 server with the files of a folder in a bucket; gives the options to reach it."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        endpoint = f"http://{host}:{port}"
        client = boto3.client(
            "s3",
            endpoint_url=endpoint,
            aws_access_key_id="id",
            aws_secret_access_key="secret",
            region_name="us-east-1",
        )
        client.create_bucket(Bucket=bucket)
        for key, file in _files(folder):
            client.put_object(Bucket=bucket, Key=key, Body=file.read_bytes(), ACL=acl)
        yield {"endpoint_url": endpoint}
    finally:
        server.stop()


def _files(folder: Path) -> Iterator[tuple[str, Path]]:
    for file in sorted(folder.rglob("*")):
        if file.is_file():
            yield file.relative_to(folder).as_posix(), file
