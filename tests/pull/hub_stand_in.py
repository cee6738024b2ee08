"""A hub on loopback that serves one model, and can be told to misbehave."""

from __future__ import annotations

import contextlib
import hashlib
import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote

import numpy as np
from safetensors.numpy import save

COMMIT = "c0ffee" + "0" * 34
CONFIG = {
    "model_type": "llama",
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 2048,
}


def model_files(**config: object) -> dict[str, bytes]:
    """Files of a small model; the names that come last are not wanted."""
    shards = [f"model-0000{number}-of-00002.safetensors" for number in (1, 2)]
    rng = np.random.default_rng(7)
    weights = {name: rng.standard_normal(50_000).astype(np.float16) for name in shards}
    index = {"weight_map": {f"w{number}": name for number, name in enumerate(shards)}}
    return {
        "config.json": json.dumps({**CONFIG, **config}).encode(),
        "tokenizer.json": b"{}",
        "tokenizer_config.json": b'{"chat_template": "{{ messages }}"}',
        "model.safetensors.index.json": json.dumps(index).encode(),
        **{name: save({f"w{i}": weights[name]}) for i, name in enumerate(shards)},
        "README.md": b"# read me",
        "modeling_evil.py": b"raise SystemExit",
        "pytorch_model.bin": b"pickled",
        "onnx/model.onnx": b"another form",
    }


class HubStandIn(ThreadingHTTPServer):
    """The hub.

    Attributes:
        files: What it serves, by name.
        seen: Paths that were asked for, each with the ``range`` and ``authorization`` sent.
        faults: What to do instead of answering, by path's end; the first that fits is used up.
        listing: Changes the answer to what the model consists of.
        elsewhere: Where weights are redirected to; empty to serve them.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.files = model_files()
        self.seen: list[tuple[str, str, str]] = []
        self.faults: list[tuple[str, Callable[[_Handler], None]]] = []
        self.listing: Callable[[dict[str, Any]], object] = lambda answer: answer
        self.elsewhere = ""
        self.revisions = {"main": COMMIT, COMMIT: COMMIT}

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Says nothing of clients that hang up."""

    def num_asked(self, end: str) -> int:
        """How often a path that ends so was asked for."""
        return sum(path.endswith(end) for path, _, _ in self.seen)

    def fail(self, end: str, *acts: Callable[[_Handler], None]) -> None:
        """Has the next requests of a path go wrong, one way each."""
        self.faults.extend((end, act) for act in acts)

    def fault(self, path: str) -> Callable[[_Handler], None] | None:
        """What to do instead of answering, once."""
        for number, (end, act) in enumerate(self.faults):
            if path.endswith(end):
                del self.faults[number]
                return act
        return None


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: HubStandIn

    def log_message(self, *_args: object) -> None:
        """Says nothing."""

    def do_GET(self) -> None:
        """Answers one request."""
        path = unquote(self.path.partition("?")[0])
        headers = self.headers
        self.server.seen.append((path, headers.get("range", ""), headers.get("authorization", "")))
        if (act := self.server.fault(path)) is not None:
            act(self)
        elif path.startswith("/api/models/org/name/revision/"):
            self._list(path.rsplit("/revision/")[1])
        elif path.startswith(f"/org/name/resolve/{COMMIT}/"):
            self._resolve(path.rsplit(f"{COMMIT}/")[1])
        elif path.startswith("/cdn/"):
            self.serve(path.removeprefix("/cdn/"))
        else:
            self.refuse(404, "RepoNotFound")

    def refuse(self, status: int, code: str = "", **headers: str) -> None:
        """Answers an error as the hub does."""
        self.send_response(status)
        if code:
            self.send_header("x-error-code", code)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("content-length", "0")
        self.end_headers()

    def send(self, body: bytes, status: int = 200, **headers: str) -> None:
        """Answers with a body."""
        self.send_response(status)
        for name, value in {"content_length": str(len(body)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def _list(self, revision: str) -> None:
        commit = self.server.revisions.get(revision)
        if commit is None:
            self.refuse(404, "RevisionNotFound")
            return
        siblings = [_sibling(name, data) for name, data in self.server.files.items()]
        answer = self.server.listing({"id": "org/name", "sha": commit, "siblings": siblings})
        self.send(json.dumps(answer).encode())

    def _resolve(self, name: str) -> None:
        if self.server.elsewhere and name.endswith(".safetensors"):
            self.refuse(302, location=f"{self.server.elsewhere}/cdn/{name}")
        else:
            self.serve(name)

    def serve(self, name: str) -> None:
        """Answers with a file, or the part of it that is asked for."""
        data = self.server.files[name]
        wanted = self.headers.get("range")
        if not wanted:
            self.send(data)
            return
        start = int(wanted.removeprefix("bytes=").removesuffix("-"))
        span = f"bytes {start}-{len(data) - 1}/{len(data)}"
        self.send(data[start:], 206, content_range=span)


def _sibling(name: str, data: bytes) -> dict[str, object]:
    blob = hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
    item: dict[str, object] = {"rfilename": name, "size": len(data), "blobId": blob}
    if name.endswith((".safetensors", ".bin")):
        stored = {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data), "pointerSize": 134}
        item |= {"lfs": stored, "blobId": "d" * 40}
    return item


def breaks_off(num_bytes: int) -> Callable[[_Handler], None]:
    """Promises a whole file, sends so much of what is asked for, and hangs up."""

    def act(handler: _Handler) -> None:
        data = handler.server.files[handler.path.rpartition("/")[2]]
        start = int((handler.headers.get("range") or "bytes=0-")[6:-1])
        handler.send_response(206 if start else 200)
        if start:
            span = f"bytes {start}-{len(data) - 1}/{len(data)}"
            handler.send_header("content-range", span)
        handler.send_header("content-length", str(len(data) - start))
        handler.end_headers()
        handler.wfile.write(data[start : start + num_bytes])
        handler.close_connection = True

    return act


def falls_silent(release: threading.Event) -> Callable[[_Handler], None]:
    """Sends a little, and then nothing until it is released."""

    def act(handler: _Handler) -> None:
        data = handler.server.files[handler.path.rpartition("/")[2]]
        handler.send_response(200)
        handler.send_header("content-length", str(len(data)))
        handler.end_headers()
        handler.wfile.write(data[:10])
        handler.wfile.flush()
        release.wait(30)
        handler.close_connection = True

    return act


@contextlib.contextmanager
def running_hub() -> Iterator[HubStandIn]:
    """A hub that runs meanwhile."""
    hub = HubStandIn()
    thread = threading.Thread(target=hub.serve_forever, args=(0.02,), name="hub", daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        hub.shutdown()
        hub.server_close()
        thread.join()
