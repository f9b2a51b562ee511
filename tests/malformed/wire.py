"""Surface: what a server sends over a connection: status line, headers, chunks and body."""

from __future__ import annotations

import functools
import json
import random
import socketserver
import threading
from pathlib import Path

from punie.evals.replies import Fault
from punie.evals.transport import Silence, Transport
from tests.malformed.mutation import damaged
from tests.malformed.surface import Surface

BODY = b'{"choices": [{"text": "words", "finish_reason": "stop"}], "usage": {"completion_tokens": 2}}'
STATUSES = (
    *(b"200 OK", b"100 Continue", b"204 No Content", b"307 Temporary Redirect", b"401 Unauthorized"),
    *(b"503 loading", b"", b"99", b"1000 x", b"200", b"\xff\xff \xff", b"-1 x"),
)
HEADERS = (
    *(b"content-length: %d", b"content-length: -1", b"content-length: 9" + b"9" * 400, b"content-length: x"),
    *(b"transfer-encoding: chunked", b"transfer-encoding: gzip, chunked", b"content-encoding: br"),
    *(b"location: /v1/completions", b"location: http://elsewhere/", b"location: http://[::1"),
    *(b"location: //", b"location: \xff\x00", b"location: http://127.0.0.1:99999/"),
    *(b"location: file:///etc/passwd", b"retry-after: 1e9", b"retry-after: Thu, 99 Foo 99999"),
    *(b"retry-after: " + b"9" * 5_000, b"connection: close", b"set-cookie: " + b"a=b;" * 300),
    *(b"x" * 5_000, b": empty", b"a b: c", b"x: \x00", b"upgrade: websocket", b" folded"),
)


def reply(rng: random.Random) -> bytes:
    """A reply over HTTP/1.1, its parts chosen at random, damaged half of the time."""
    lines = [b"HTTP/1.1 " + rng.choice(STATUSES) if rng.random() < 0.6 else b"HTTP/1.1 200 OK"]
    lines += [each.replace(b"%d", b"%d" % len(BODY)) for each in rng.sample(HEADERS, rng.randint(0, 3))]
    body = BODY
    if rng.random() < 0.5:
        sizes = (b"%x" % len(BODY), b"-1", b"f" * 40, b"zz", b"0", b"5;a=b")
        body = b"\r\n".join((rng.choice(sizes), BODY, b"0", b"trailer: x", b""))
    whole = b"\r\n".join((*lines, b"", body)) * rng.choice((1, 1, 1, 2))
    return damaged(rng, whole) if rng.random() < 0.5 else whole


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    content = b""


class _Handler(socketserver.StreamRequestHandler):
    server: _Server  # ty: ignore[incompatible-mutable-override]
    timeout = 5.0

    def handle(self) -> None:
        while self.rfile.readline().strip():
            pass
        self.wfile.write(self.server.content)


@functools.cache
def _server() -> _Server:
    server = _Server(("127.0.0.1", 0), _Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


def _exchange(content: bytes, _folder: Path) -> None:
    server = _server()
    server.content = content
    transport = Transport(f"http://127.0.0.1:{server.server_address[1]}")
    try:
        received = transport.exchange(transport.addresses[0], None, limit=100_000, timeout=2.0)
        shown = [received.words, received.retry_after, received.message]
        json.dumps(shown, ensure_ascii=False, allow_nan=False).encode()
    finally:
        transport.close()


SURFACES = (Surface("server connections", reply, _exchange, 0, refusals=(Fault, Silence)),)
