"""A server that speaks chat completions and nothing of Stoker's, on a real socket."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

MODEL = "other/model"
PIECE_S = 0.005
KEY = "a-key"


class _Handler(BaseHTTPRequestHandler):
    """Answers with as many words as it may."""

    refuses_chat = False

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        if self.path != "/v1/models":
            self._reply(404, {"error": {"message": "no such path"}})
            return
        if self.headers["Authorization"] != f"Bearer {KEY}" and self.headers["x-api-key"] != KEY:
            self._reply(401, {"error": {"message": "wrong key"}})
            return
        self._reply(200, {"data": [{"id": MODEL, "max_model_len": 1500}]})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.refuses_chat:
            self._reply(400, {"error": {"message": "not today"}})
            return
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        words = body["messages"][-1]["content"].split()
        for _ in range(body["max_tokens"]):
            time.sleep(PIECE_S)
            self._event({"choices": [{"delta": {"content": "x "}}]})
        usage = {"prompt_tokens": len(words), "completion_tokens": 2 * body["max_tokens"]}
        self._event({"choices": [], "usage": usage})
        self.wfile.write(b"data: [DONE]\n\n")

    def _event(self, data: dict[str, Any]) -> None:
        self.wfile.write(f"data: {json.dumps(data)}\n\n".encode())
        self.wfile.flush()

    def _reply(self, status: int, data: dict[str, Any]) -> None:
        content = json.dumps(data).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


@contextlib.contextmanager
def other_server(*, refuses_chat: bool = False) -> Iterator[str]:
    """Runs one; yields its address."""
    handler = type("Handler", (_Handler,), {"refuses_chat": refuses_chat})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join(10)
        server.server_close()
