"""A client for an OpenAI-compatible completions endpoint, and the check that it holds the expected model.

The prompt is sent to /v1/completions as rendered text, because the chat route parses the response and drops
what it cannot parse. Requests are sent one after another: in a server that batches them, the last bits of the
logits would depend on which requests meet.
"""

from __future__ import annotations

import hashlib
import ipaddress
import itertools
import json
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from netrc import NetrcParseError
from typing import TYPE_CHECKING, Self

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
"""Attempts in a row without a connection or a reply, after which no more are made."""
_BACKOFF, _LONGEST_BACKOFF = 0.5, 8.0
"""Seconds before the second attempt, doubled for each one after it, and their maximum."""
_CONNECT = 10.0
"""Seconds within which a server must accept a connection."""
PROBE_TOKENS = 24
"""Longest response that ``probe`` compares, in tokens."""
TOLERANCE = 0.1
"""Largest difference of a token's log-probability, in nats: more than another batch size or kernel causes in
half precision, and less than another fine-tuning does where the tokens happen to be the same."""


@dataclass
class Endpoint:
    """A connection to an endpoint. Use it as a context manager: entering it checks that the server answers.

    No other host than the one in the URL is contacted: redirects are not followed, and the proxies of the
    environment are not used for a loopback address. User and password come from ~/.netrc.

    Raises:
        ConfigError: The URL is not one of a server, or ~/.netrc cannot be read.
    """

    url: str
    """Of the server, with or without ``/v1``. Any host is allowed, because the user named it."""
    tokenizer: Tokenizer
    """Of the model that the server should hold."""
    model: str | None = None
    """Model name to send. Without one mlx_lm.server uses what it was started with, its adapter included."""
    token_ids: bool = True
    """Request token ids in mlx_lm.server's way (``"logprobs": true``), which some other servers refuse."""
    attempts: int = ATTEMPTS
    """How often a request is sent, unchanged, before it counts as missing."""
    timeout: float = 600.0
    """Seconds that a reply may take."""
    sleep: Callable[[float], None] = time.sleep
    """Waits between attempts."""
    _unheard: int = field(default=0, init=False)
    """Attempts in a row that did not reach the server."""

    def __post_init__(self) -> None:
        base = checked_url(self.url)
        try:
            loopback = ipaddress.ip_address(base.host).is_loopback
        except ValueError:  # a name
            loopback = base.host == "localhost"
        self._client = httpx2.Client(
            base_url=base,
            timeout=httpx2.Timeout(self.timeout, connect=_CONNECT),
            headers={"accept-encoding": "identity"},  # so that MAX_REPLY limits what is held in memory
            follow_redirects=False,
            trust_env=not loopback,
            auth=_credentials(),
        )

    def __enter__(self) -> Self:
        """Check that the server answers.

        Raises:
            PunieError: It does not.
        """
        reason = ""
        for attempt in range(self.attempts):
            self._wait(attempt)
            try:
                with self._client.stream("GET", "health", timeout=_CONNECT):
                    return self  # with any status: not every server has this route
            except httpx2.RequestError as error:
                reason = _in_words(error)
        self._client.close()
        raise PunieError(
            "The server does not answer.",
            where=f"eval.server.url={self._client.base_url}",
            found=reason,
            next_step="start it, or leave eval.server.url out so that mlx_lm.server is started here",
        )

    def __exit__(self, *exception: object) -> None:
        self._client.close()

    def answer(self, request: Request, sampling: Sampling, *, stop: Sequence[str] = ()) -> Reply | str:
        """Get one response, or why it is missing: the same bytes are sent until there is a usable reply.

        ``stop`` are texts that end a response. A missing response has no score, which is not a score of zero.
        """
        body = self._body(request, sampling, stop)
        reason, attempts = "the server is gone", 0
        while attempts < self.attempts and self._unheard < GONE:
            self._wait(attempts)
            attempts += 1
            began = time.perf_counter()
            try:
                reply = self._exchange(body)
                self._unheard = 0
                seconds = round(time.perf_counter() - began, 4)
                return read(reply, request, self.tokenizer, stop=stop, model=self.model, seconds=seconds)
            except Fault as fault:
                self._unheard, reason = 0, str(fault)
            except httpx2.RequestError as error:
                unheard = isinstance(error, httpx2.ConnectError | httpx2.TimeoutException)
                self._unheard = self._unheard + 1 if unheard else 0
                reason = _in_words(error)
        return reason

    def _wait(self, attempts: int) -> None:
        self.sleep(min(_BACKOFF * 2 ** (attempts - 1), _LONGEST_BACKOFF) if attempts else 0.0)

    def _body(self, request: Request, sampling: Sampling, stop: Sequence[str]) -> bytes:
        # At temperature 0 nothing is sampled, and a seed would only keep mlx_lm.server from its batched path,
        # which is also the one that this process generates with.
        seed = request_seed(sampling.seed, request.id) if sampling.temperature > 0 else None
        payload = {
            "prompt": request.prompt,
            "max_tokens": request.max_tokens,
            **asdict(sampling),
            "seed": seed,
            "stop": list(stop) or None,
            "stream": False,
            "logprobs": self.token_ids or None,
            "model": self.model,
        }
        return json.dumps({key: value for key, value in payload.items() if value is not None}).encode()

    def _exchange(self, body: bytes) -> object:
        """Send a request; returns what the reply's JSON says. Raises RequestError or Fault without it."""
        deadline = time.monotonic() + self.timeout
        reply = bytearray()
        headers = {"content-type": "application/json"}
        with self._client.stream("POST", "v1/completions", content=body, headers=headers) as response:
            for chunk in response.iter_raw():
                reply += chunk
                if len(reply) > MAX_REPLY:
                    raise Fault(f"the reply is longer than {MAX_REPLY:,} bytes")
                if time.monotonic() > deadline:
                    raise Fault(f"the reply takes longer than {self.timeout:g} s")
        shown = excerpt(reply[:1000].decode(errors="replace"))
        if response.status_code != 200:
            raise Fault(f"status {response.status_code}: {shown}")
        try:
            parsed = json.loads(reply)
            # Numbers that are not finite and text that is not Unicode cannot be written to the record.
            json.dumps(parsed, ensure_ascii=False, allow_nan=False).encode()
        except (ValueError, RecursionError):
            kind = response.headers.get("content-type", "no content type")
            raise Fault(f"the reply is not JSON ({kind}): {shown}") from None
        return parsed


def probe(
    endpoint: Endpoint,
    prompt_text: str,
    prompt_ids: Sequence[int],
    expected_ids: Sequence[int],
    expected_logprobs: Sequence[float] | None = None,
) -> str | None:
    """Compare a greedy response of the server with the one that the expected model gives in this process.

    The expected one is to a prompt that is given as rendered and as tokens, with
    ``max_tokens=PROBE_TOKENS``, no stop texts, and without the end token. Its log-probabilities are compared
    if the server gives them, too.

    Returns:
        Why the server may not hold that model; None if it gave the same token ids.
    """
    from punie.model.generate import Sampling

    request = Request("identity probe", prompt_text, len(prompt_ids), PROBE_TOKENS)
    reply = endpoint.answer(request, Sampling(temperature=0.0))
    expected = list(expected_ids)
    if isinstance(reply, str):
        return f"the identity probe got no reply: {reply}"
    if reply.doubts:
        return "; ".join(reply.doubts)
    if not expected:
        return "the expected response to the identity probe is empty, so nothing is compared"
    if reply.tokens is None:
        outcome = "agree" if reply.text == endpoint.tokenizer.decode(expected) else "differ"
        return f"the server gives no token ids; the texts of a greedy response {outcome}"
    if reply.tokens != expected:
        pairs = zip(reply.tokens, expected, strict=False)
        same = sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], pairs))
        return f"the token ids of a greedy response differ from position {same} on"
    logprobs = zip(reply.logprobs or (), expected_logprobs or (), strict=False)
    apart = max((abs(one - other) for one, other in logprobs), default=0.0)
    if apart > TOLERANCE:
        return f"the log-probabilities of a greedy response differ by up to {apart:.2f} nats"
    return None


def request_seed(seed: int, request_id: str) -> int:
    """The seed of one request in 31 bits, which fit into every server's integer type."""
    digest = hashlib.sha256(f"{seed}/{request_id}".encode()).digest()
    return int.from_bytes(digest[:4], "big") >> 1


def checked_url(url: str) -> httpx2.URL:
    """The server's URL without a trailing ``/v1``.

    Raises:
        ConfigError: It is not one of a server.
    """
    try:
        parsed = httpx2.URL(url)
        faults = {
            f"the scheme '{parsed.scheme}'": parsed.scheme not in ("http", "https"),
            "no host": not parsed.host,
            f"the port {parsed.port}": parsed.port is not None and not 0 < parsed.port < 2**16,
            "a query or a fragment": parsed.query or parsed.fragment,
            "a user or password; put it into ~/.netrc": parsed.userinfo,
        }
        found = next((fault for fault, wrong in faults.items() if wrong), None)
        if found is None:
            return parsed.copy_with(path=parsed.path.rstrip("/").removesuffix("/v1").rstrip("/") + "/")
    except httpx2.InvalidURL as error:
        found = str(error)
    raise ConfigError(
        "The server's URL cannot be used.",
        where=f"eval.server.url={re.sub('//.*@', '//...@', url)}",  # a password is not shown
        found=found,
        expected="http://host:port, or https",
    )


def _credentials() -> httpx2.Auth | None:
    """Users and passwords by host from ~/.netrc; not from the URL, which is written into the run's files."""
    try:
        return httpx2.NetRCAuth()
    except FileNotFoundError:
        return None
    except (OSError, NetrcParseError) as error:
        raise ConfigError("The file of passwords cannot be read.", where="~/.netrc", found=error) from None


def _in_words(error: httpx2.RequestError) -> str:
    return f"{type(error).__name__}: {error}".rstrip(": ")
