"""mlx_lm.server with a given model, on a free loopback port, while a block of code runs."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path

import httpx2

from punie.util.errors import PunieError

_LOOK = 0.1
"""Seconds between checks of a server that starts."""
_GRACE = 5.0
"""Seconds that a server has to end before it is killed."""
_LAST_LINES = 12
"""Lines of the log that a message shows."""


@dataclass(frozen=True)
class Server:
    """A server that was started here."""

    url: str
    """http://127.0.0.1 and a port."""
    log: Path
    """File of what it printed."""
    process: subprocess.Popen[bytes]
    """Its process, the leader of its own session."""

    def ended(self) -> PunieError | None:
        """An error if it has ended: only ``serve`` should end it."""
        code = self.process.poll()
        return None if code is None else _failure("The server ended by itself", f"exit code {code}", self.log)


@contextlib.contextmanager
def serve(
    model: Path,
    *,
    log: Path,
    adapter: Path | None = None,
    float32: bool = False,
    blas: bool = True,
    threads: int | None = None,
    timeout: float = 600.0,
) -> Generator[Server]:
    """Run mlx_lm.server. It and its children are ended when the block is left, however it is left.

    It downloads nothing, runs no code from the model's folder, and ends with this process. ``log`` is a file
    for what it prints; an old one is replaced. ``float32`` and ``threads`` are those of ``load.load``,
    ``blas`` that of ``blas.activate``; within ``timeout`` seconds it must have generated a token.

    Raises:
        PunieError: It ended, cannot load the model or generate with it, or was not ready in time.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = ["--parent", str(os.getpid()), "--host", "127.0.0.1", "--port", str(port)]
    options += ["--model", str(model.absolute())]
    options += [] if adapter is None else ["--adapter-path", str(adapter.absolute())]
    options += [] if threads is None else ["--threads", str(threads)]
    options += ["--float32"] * float32 + ["--no-blas"] * (not blas)
    with log.open("wb") as output:
        process = subprocess.Popen(
            # -P: modules are imported from where they are installed, not from the working folder.
            [sys.executable, "-P", "-m", "punie.model.server_main", *options],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=os.environ | {"HF_HUB_OFFLINE": "1", "PYTHONUNBUFFERED": "1"},
            start_new_session=True,
        )
    server = Server(f"http://127.0.0.1:{port}", log, process)
    try:
        _wait(server, timeout)
        yield server
    finally:
        for request in (signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError):  # it has ended
                os.killpg(process.pid, request)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(_GRACE)


def _wait(server: Server, timeout: float) -> None:
    """Wait for a first token.

    /health is 200 before the model is loaded, and /v1/models fails where there is no hub cache, so only a
    completion shows that the server is ready.
    """
    deadline = time.monotonic() + timeout
    payload = {"prompt": "a", "max_tokens": 1, "temperature": 0.0}
    with httpx2.Client(base_url=server.url, trust_env=False) as client:
        while (left := deadline - time.monotonic()) > 0:
            if error := server.ended():
                raise error
            try:
                response = client.post("/v1/completions", json=payload, timeout=left)
            except httpx2.TransportError:
                time.sleep(_LOOK)
                continue
            if response.status_code != 200:
                raise _failure("The server cannot generate with the model", response.text[:200], server.log)
            return
    raise _failure("The server was not ready in time", f"no token within {timeout:g} s", server.log)


def _failure(what: str, found: str, log: Path) -> PunieError:
    """An error that shows the server's last error message and the end of its log."""
    lines = log.read_text(errors="replace").splitlines()
    errors = [line for line in lines if " - ERROR - " in line]
    shown = [*errors[-1:], *lines[-_LAST_LINES:]]
    return PunieError(
        f"{what}.",
        where=f"log {log}",
        found="\n           | ".join([found, *shown]),
        next_step="read the log; the lines above are its last error, if it has one, and its end",
    )
