"""A client for an OpenAI-compatible endpoint: a request ends in a reply or is missing, and is never a zero.

The prompt goes to /v1/completions as rendered text: the chat route would parse the answer and drop what it
cannot parse. Requests go one after another: in a server that batches them, which ones meet would decide the
last bits of the logits.
"""

from __future__ import annotations

import hashlib
import ipaddress
import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from netrc import NetrcParseError
from typing import TYPE_CHECKING, Any, Self

import httpx2

from punie.evals.replies import Fault, Reply, Request, Tokenizer, read
from punie.util.errors import ConfigError, PunieError
from punie.util.jsonl import excerpt

if TYPE_CHECKING:
    from punie.model.generate import Sampling

MAX_REPLY = 16 * 2**20
"""Longest reply that is read, in bytes."""
ATTEMPTS = 4
"""How often a request is sent before it counts as missing."""
GONE = 3
"""Attempts in a row that found nobody, after which the server counts as gone."""
_BACKOFF, _LONGEST_BACKOFF = 0.5, 8.0
"""Seconds before the second attempt, doubled for each one after it, and the most there is."""
_CONNECT = 10.0
"""Seconds in which a server must take a connection."""


@dataclass(frozen=True)
class Missing:
    """An answer that could not be had: it has no score, which is not a score of zero."""

    id: str
    """The request's."""
    reason: str
    """What went wrong at the last attempt, in words."""
    attempts: int
    """How often it was asked for; 0 if the server was gone by then."""


class Endpoint:
    """An endpoint and the way to it. Use it as a context manager: entering it makes sure that it answers.

    Nothing is ever asked of another host than the one in the URL: redirects are not followed, and for a
    loopback address the environment's proxies are passed by. A name and password for it come from ~/.netrc.

    Args:
        url: Of the server, with or without ``/v1``. Any host will do, for the user has named it.
        tokenizer: Of the model that the server is expected to hold.
        model: Name to ask for; None sends none, and mlx_lm.server then serves what it was started with,
            its adapter included.
        token_ids: Ask for token ids in mlx_lm.server's way (``"logprobs": true``), which some others refuse.
        attempts: How often a request is sent, unchanged, before it counts as missing.
        timeout: Seconds that a reply may take.
        sleep: Waits between attempts.

    Raises:
        ConfigError: The URL is not one of a server, or ~/.netrc cannot be read.
    """

    def __init__(
        self,
        url: str,
        tokenizer: Tokenizer,
        *,
        model: str | None = None,
        token_ids: bool = True,
        attempts: int = ATTEMPTS,
        timeout: float = 600.0,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._base = checked_url(url)
        self.tokenizer = tokenizer
        self._model = model
        self._token_ids = token_ids
        self._attempts = attempts
        self._timeout = timeout
        self._sleep = sleep
        self._unheard = 0  # attempts in a row that found nobody
        self._client = httpx2.Client(
            timeout=httpx2.Timeout(timeout, connect=_CONNECT),
            headers={"accept-encoding": "identity"},  # what is read is as long as what was sent
            follow_redirects=False,
            trust_env=not _is_loopback(self._base.host),
            auth=_credentials(),
        )

    def __enter__(self) -> Self:
        """Make sure that somebody answers.

        Raises:
            PunieError: Nobody does.
        """
        try:
            self._reach()
        except BaseException:
            self._client.close()
            raise
        return self

    def __exit__(self, *exception: object) -> None:
        self._client.close()

    def answer_all(
        self,
        requests: Sequence[Request],
        sampling: Sampling,
        *,
        stop: Sequence[str],
        done: Callable[[int], None],
    ) -> list[Reply | Missing]:
        """Ask for every answer, in order; what cannot be had is in its place as missing.

        Args:
            requests: The prompts with their limits.
            sampling: How to draw.
            stop: Texts that end an answer.
            done: Called with the number of requests that are over.
        """
        outcomes = []
        for request in requests:
            outcomes.append(self.answer(request, sampling, stop=stop))
            done(len(outcomes))
        return outcomes

    def answer(self, request: Request, sampling: Sampling, *, stop: Sequence[str] = ()) -> Reply | Missing:
        """Ask for one answer, each time with the same bytes, until there is a usable reply."""
        body = json.dumps(self._payload(request, sampling, stop)).encode()
        reason = "the server is gone"
        attempts = 0
        for wait in self._waits():
            if self._unheard >= GONE:
                break
            self._sleep(wait)
            attempts += 1
            began = time.perf_counter()
            try:
                reply = self._exchange(body)
                self._unheard = 0
                seconds = round(time.perf_counter() - began, 4)
                return read(
                    reply,
                    request,
                    self.tokenizer,
                    stop=stop,
                    model=self._model,
                    seconds=seconds,
                    attempts=attempts,
                )
            except Fault as fault:
                self._unheard, reason = 0, str(fault)
            except httpx2.RequestError as error:
                nobody = isinstance(error, httpx2.ConnectError | httpx2.TimeoutException)
                self._unheard = self._unheard + 1 if nobody else 0
                reason = _in_words(error)
        return Missing(request.id, reason, attempts)

    def _waits(self) -> Iterator[float]:
        """Seconds to wait before each attempt."""
        yield 0.0
        for exponent in range(self._attempts - 1):
            yield min(_BACKOFF * 2**exponent, _LONGEST_BACKOFF)

    def _reach(self) -> None:
        reason = ""
        for wait in self._waits():
            self._sleep(wait)
            try:
                with self._client.stream("GET", f"{self._base}health", timeout=_CONNECT):
                    return  # whatever it says: not every server has this route
            except httpx2.RequestError as error:
                reason = _in_words(error)
        raise PunieError(
            "The server does not answer.",
            where=f"eval.server.url={self._base}",
            found=reason,
            next_step="start it, or leave eval.server.url out to have mlx_lm.server started here",
        )

    def _payload(self, request: Request, sampling: Sampling, stop: Sequence[str]) -> dict[str, Any]:
        payload: dict[str, Any] = {
            "prompt": request.prompt,
            "max_tokens": request.max_tokens,
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "top_k": sampling.top_k,
            "min_p": sampling.min_p,
            "stop": list(stop) or None,
            "stream": False,
        }
        if sampling.temperature > 0:
            # Nothing is drawn at 0, where a seed would only take mlx_lm.server off its batched path, which
            # is the one that this process generates by, too.
            payload["seed"] = request_seed(sampling.seed, request.id)
        if self._token_ids:
            payload["logprobs"] = True
        if self._model is not None:
            payload["model"] = self._model
        return payload

    def _exchange(self, body: bytes) -> object:
        """Send a request; returns what the reply's JSON says.

        Raises:
            RequestError: There is no whole reply.
            Fault: The reply is too long or too slow, or is not JSON.
        """
        deadline = time.monotonic() + self._timeout
        reply = bytearray()
        headers = {"content-type": "application/json"}
        url = f"{self._base}v1/completions"
        with self._client.stream("POST", url, content=body, headers=headers) as response:
            for chunk in response.iter_raw():
                reply += chunk
                if len(reply) > MAX_REPLY:
                    raise Fault(f"the reply is longer than {MAX_REPLY:,} bytes")
                if time.monotonic() > deadline:
                    raise Fault(f"the reply takes longer than {self._timeout:g} s")
        shown = excerpt(reply[:1000].decode(errors="replace"))
        if response.status_code != 200:
            raise Fault(f"status {response.status_code}: {shown}")
        try:
            parsed = json.loads(reply)
            # What is not finite or not Unicode could not be written to the record.
            json.dumps(parsed, ensure_ascii=False, allow_nan=False).encode()
        except (ValueError, RecursionError):
            kind = response.headers.get("content-type", "no content type")
            raise Fault(f"the reply is not JSON ({kind}): {shown}") from None
        return parsed


def request_seed(seed: int, request_id: str) -> int:
    """The seed of one request: its draws depend on the evaluation's seed and its id, not on its place.

    It has 31 bits, which every server's integer type holds.
    """
    digest = hashlib.sha256(f"{seed}/{request_id}".encode()).digest()
    return int.from_bytes(digest[:4], "big") >> 1


def checked_url(url: str) -> httpx2.URL:
    """The server's URL without a trailing ``/v1``.

    Raises:
        ConfigError: It is not one of a server.
    """
    try:
        parsed = httpx2.URL(url)
    except httpx2.InvalidURL as error:
        raise _bad_url(url, str(error)) from None
    if parsed.scheme not in ("http", "https"):
        raise _bad_url(url, f"the scheme '{parsed.scheme}'")
    if not parsed.host:
        raise _bad_url(url, "no host")
    if parsed.port is not None and not 0 < parsed.port < 2**16:
        raise _bad_url(url, f"the port {parsed.port}")
    if parsed.query or parsed.fragment:
        raise _bad_url(url, "a query or a fragment")
    if parsed.userinfo:
        raise _bad_url(f"{parsed.scheme}://...@{parsed.host}", "a user or password; put it into ~/.netrc")
    return parsed.copy_with(path=parsed.path.rstrip("/").removesuffix("/v1").rstrip("/") + "/")


def _bad_url(url: str, found: str) -> ConfigError:
    return ConfigError(
        "The server's URL cannot be used.",
        where=f"eval.server.url={url}",
        found=found,
        expected="http://host:port, or https",
    )


def _credentials() -> httpx2.Auth | None:
    """Names and passwords by host from ~/.netrc, for a URL has none: it is written into the run's files."""
    try:
        return httpx2.NetRCAuth()
    except FileNotFoundError:
        return None
    except (OSError, NetrcParseError) as error:
        raise ConfigError("The file of passwords cannot be read.", where="~/.netrc", found=error) from None


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:  # a name
        return host == "localhost"


def _in_words(error: httpx2.RequestError) -> str:
    return f"{type(error).__name__}: {error}".rstrip(": ")
