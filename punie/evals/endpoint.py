"""A client for an OpenAI-compatible server, and the check that it holds the expected model.

By the completions API the server is sent the rendered prompt itself; by the chat API the turns, which it
renders with its own template. Requests are sent one after another: in a server that batches them, the last
bits of the logits would depend on which requests meet.
"""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import json
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Self

from punie.evals.replies import Fault, Reply, Request, Tokenizer, read
from punie.evals.transport import CONNECT, Elsewhere, Received, Silence, Transport
from punie.util.errors import PunieError
from punie.util.jsonl import excerpt

if TYPE_CHECKING:
    from punie.model.generate import Sampling

log = logging.getLogger(__name__)

ATTEMPTS = 4
"""How often a request is sent before it counts as missing."""
GONE = 3
"""Attempts in a row without a connection or a reply, after which no more are made."""
PATIENCE = 300.0
"""Longest wait for a server that says it is busy or loading, in seconds between two replies."""
_BACKOFF, _LONGEST_BACKOFF = 0.5, 4.0
"""Seconds before the second attempt, doubled for each one after it, and their maximum."""
_BUSY = (408, 425, 429, 502, 503, 504)
"""Statuses after which the same request may succeed later."""
_MALFORMED = (400, 422)
"""Statuses by which servers refuse a parameter."""
_OPTIONAL = (
    "logprobs", "return_token_ids", "skip_special_tokens", "seed", "min_p", "top_k", "stop",
    "chat_template_kwargs",
)  # fmt: skip
"""Parameters that a request is sent without once a server has refused it with them."""
_HEALTH_BYTES = 2**16
PROBE_TOKENS = 24
"""Longest response that ``probe`` compares, in tokens."""
TOLERANCE = 0.1
"""Largest difference of a token's log-probability, in nats: more than another batch size or kernel causes in
half precision, and less than another fine-tuning does where the tokens happen to be the same."""


class _Refused(Exception):
    """A status that will not change."""

    def __init__(self, received: Received) -> None:
        super().__init__(received.words)
        self.received = received


class _Failed(Fault):
    """A status after which the same request may succeed."""

    def __init__(self, received: Received) -> None:
        super().__init__(received.words)
        self.busy = received.status in _BUSY
        self.wait = received.retry_after
        """Seconds that the server asks to wait."""


@dataclass
class Endpoint:
    """A connection to a server. Use it as a context manager: entering it checks that the server answers.

    Only the host in the URL is contacted (:class:`punie.evals.transport.Transport`).

    Raises:
        ConfigError: The URL is not one of a server.
    """

    url: str
    """Of the server, with or without ``/v1`` and a route. Any host is allowed, because the user named it."""
    tokenizer: Tokenizer
    """Of the model that the server should hold."""
    model: str | None = None
    """Model name to send. Without one mlx_lm.server uses what it was started with, its adapter included."""
    api: str = "completions"
    """Whether the server is sent the rendered prompt, or the turns."""
    key: str | None = None
    """API key, sent as a bearer token, or a scheme and credentials with a space between them."""
    token_ids: bool = True
    """Request token ids, in the ways of mlx_lm.server and of vLLM."""
    attempts: int = ATTEMPTS
    """How often a request is sent before it counts as missing; with 1, a busy server is not waited for."""
    timeout: float = 600.0
    """Seconds that a reply may take, from the connection to its last byte."""
    sleep: Callable[[float], None] = time.sleep
    """Waits between attempts."""
    served: bool = field(default=False, init=False)
    """There was a reply to a request, usable or not."""
    trouble: str = field(default="", init=False)
    """Why the last attempt that failed did."""
    notes: list[str] = field(default_factory=list, init=False)
    """What the server was asked otherwise than it should be, in words."""
    _unheard: int = field(default=0, init=False)
    """Attempts in a row that did not reach the server."""
    _waited: float = field(default=0.0, init=False)
    """Seconds waited for a busy server since its last reply."""
    _without: set[str] = field(default_factory=set, init=False)
    """Optional parameters that the server refuses."""
    _accepted: set[str] = field(default_factory=set, init=False)
    """Parameters of the requests that it took."""

    def __post_init__(self) -> None:
        self._transport = Transport(self.url, self.api, key=self.key)
        self._addresses = list(self._transport.addresses)

    @property
    def address(self) -> str:
        """Where requests are posted to."""
        return self._addresses[0]

    def __enter__(self) -> Self:
        """Check that the server answers, and wait if it says that it is not ready.

        Raises:
            PunieError: It does not.
        """
        url, pause, failed, busy = f"{self._transport.base}health", 0.0, 0, 0
        while failed < self.attempts:
            self.sleep(pause)
            try:
                timeout = min(CONNECT, self.timeout)
                health = self._transport.exchange(url, None, limit=_HEALTH_BYTES, timeout=timeout)
            except Silence as silence:
                self.trouble, failed = str(silence), failed + 1
                pause = _backoff(failed)
                continue
            except Fault:  # a long page, or a redirect: there is a server
                return self
            # Any other status is as good as 200, because not every server has this route. Some say 503 for
            # ever, so after a while a request decides.
            busy += 1
            wait = self._patience(_Failed(health), busy) if health.status == 503 else None
            if wait is None or self._waited > PATIENCE / 10:
                return self
            pause = wait
        self._transport.close()
        raise PunieError(
            "The server does not answer.",
            where=f"eval.server.url={self._transport.base}",
            found=self.trouble,
            next_step="start it, or leave eval.server.url out so that mlx_lm.server is started here",
        )

    def __exit__(self, *exception: object) -> None:
        self._transport.close()

    def answer(self, request: Request, sampling: Sampling, *, stop: Sequence[str] = ()) -> Reply | str:
        """Get one response, or why it is missing: the same request is sent until there is a usable reply.

        ``stop`` are texts that end a response. A missing response has no score, which is not a score of zero.

        Raises:
            PunieError: The server has given no response yet, and refuses the request for good.
        """
        payload = self._payload(request, sampling, stop)
        reason, pause, failed, busy = "the server is gone", 0.0, 0, 0
        while failed < self.attempts and self._unheard < GONE:
            self.sleep(pause)
            began = time.perf_counter()
            try:
                reply = self._ask(payload, request, last=failed + 1 == self.attempts)
                self._unheard, self._waited = 0, 0.0
                self.served |= isinstance(reply, dict) and bool(reply.get("choices"))
                seconds = round(time.perf_counter() - began, 4)
                return read(reply, request, self.tokenizer, stop=stop, model=self.model, seconds=seconds)
            except (_Refused, Elsewhere) as refusal:
                if not self.served:
                    raise self._refusal(refusal) from None
                return str(refusal)
            except Silence as silence:
                self._unheard, reason = 0 if silence.broken else self._unheard + 1, str(silence)
            except Fault as fault:
                self._unheard, reason, busy = 0, str(fault), busy + 1
                if isinstance(fault, _Failed) and fault.busy and self.attempts > 1:
                    wait = self._patience(fault, busy)
                    if wait is not None:
                        pause = wait
                        continue
                    self._unheard = GONE
                    reason = f"{reason}; waited {self._waited:.0f} s for it"
            failed += 1
            pause, self.trouble = _backoff(failed), reason
        return reason

    def _patience(self, failure: _Failed, number: int) -> float | None:
        """Seconds to wait for a busy server after some failures; None if that is more than is left."""
        asked = _backoff(number) if failure.wait is None else max(failure.wait, _BACKOFF)
        if self._waited + asked > PATIENCE:
            return None
        self._waited += asked
        log.warning("the server is busy (%s); asking again in %.1f s", failure, asked)
        return asked

    def _payload(self, request: Request, sampling: Sampling, stop: Sequence[str]) -> dict[str, Any]:
        # At temperature 0 nothing is sampled, and a seed would only keep mlx_lm.server from its batched path,
        # which is also the one that this process generates with.
        seed = request_seed(sampling.seed, request.id) if sampling.temperature > 0 else None
        by_chat = self.api == "chat"
        payload = {
            **((request.chat or {}) if by_chat else {"prompt": request.prompt}),
            "max_tokens": request.max_tokens,
            **asdict(sampling),
            "seed": seed,
            "stop": list(stop) or None,
            "stream": False,
            "logprobs": self.token_ids or None,
            "return_token_ids": self.token_ids or None,
            # vLLM leaves the marks of calls out of the text otherwise; by chat its parser decides.
            "skip_special_tokens": None if by_chat else False,
            "model": self.model,
        }
        return {key: value for key, value in payload.items() if value is not None}

    def _ask(self, payload: Mapping[str, Any], request: Request, *, last: bool) -> object:
        """Post a request, without what the server refuses of it; returns what the reply's JSON says."""
        without, words = set(self._without), ""
        while True:
            body = {key: value for key, value in payload.items() if key not in without}
            open_ = (body.keys() & set(_OPTIONAL)) - self._accepted
            try:
                received = self._post(json.dumps(body).encode(), request)
                break
            except _Refused as refusal:
                if not open_ or refusal.received.status not in _MALFORMED:
                    raise
                words = str(refusal)
                without |= {name for name in open_ if name in refusal.received.message} or open_
            except (Silence, _Failed) as failure:
                # Some servers break on what they do not know; nothing else has been tried by then.
                broken = failure.broken if isinstance(failure, Silence) else not failure.busy
                if not (broken and last and open_) or self._accepted:
                    raise
                words = str(failure)
                without |= open_
        self._accepted |= body.keys()
        if refused := sorted(without - self._without):
            values = {name: payload[name] for name in refused}
            named = [name if isinstance(value, bool) else f"{name}={value}" for name, value in values.items()]
            which = excerpt(", ".join(named), 200)
            self.notes.append(
                f"the server was asked without {which}, which it refuses ({excerpt(words, 200)})"
            )
        self._without = without
        try:
            parsed = json.loads(received.body)
            # Numbers that are not finite and text that is not Unicode cannot be written to the record.
            json.dumps(parsed, ensure_ascii=False, allow_nan=False).encode()
        except (ValueError, RecursionError):
            kind = received.headers.get("content-type", "no content type")
            raise Fault(f"the reply is not JSON ({kind}): {excerpt(received.message)}") from None
        return parsed

    def _post(self, body: bytes, request: Request) -> Received:
        """A reply with status 200, from the first address that has the route."""
        absent = None
        for address in self._addresses:
            received = self._transport.exchange(
                address, body, limit=request.longest_reply, timeout=self.timeout
            )
            if received.status not in (404, 405):
                break
            absent = absent or received
        else:
            received = absent or received
        if received.status == 200:
            self._addresses = [received.url]
            return received
        if received.status in _BUSY or (received.status >= 500 and received.status != 501):
            raise _Failed(received)
        raise _Refused(received)

    def _refusal(self, refusal: _Refused | Elsewhere) -> PunieError:
        """The error for a refusal that ends the evaluation."""
        status, words, where = 0, "", self.address
        if isinstance(refusal, _Refused):
            status, where = refusal.received.status, refusal.received.url
            words = refusal.received.message.lower()
        other = "completions" if self.api == "chat" else "chat"
        if status in (401, 403) and self.key:
            step = "check the key in the variable of eval.server.api_key_env"
        elif status in (401, 403):
            step = "set eval.server.api_key_env to the name of an environment variable with the API key"
        elif "context" in words or "too long" in words:
            step = "lower eval.max_tokens, or start the server with a longer context"
        elif "model" in words:
            step = "eval.server.model=NAME, with a model that the server has"
        elif status in (404, 405):
            step = f"check eval.server.url; eval.server.api={other} if the server has only that API"
        elif isinstance(refusal, Elsewhere):
            step = "set eval.server.url to where it leads, if you trust that host"
        else:
            step = "change what the server names; it may be a value of eval, or a server that lacks a feature"
        return PunieError(
            "The server refuses the first request, and would refuse all others.",
            where=f"POST {where}",
            found=str(refusal),
            next_step=step,
        )


def probe(
    endpoint: Endpoint,
    asked: Request,
    expected_ids: Sequence[int],
    expected_logprobs: Sequence[float] | None = None,
) -> str | None:
    """Compare a greedy response of the server with the one that the expected model gives in this process.

    The expected one is to the prompt of a request, with ``max_tokens=PROBE_TOKENS``, no stop texts, and
    without the end token. Its log-probabilities are compared if the server gives them, too.

    Returns:
        Why the server may not hold that model; None if it gave the same token ids.
    """
    from punie.model.generate import Sampling

    request = dataclasses.replace(asked, id="identity probe", max_tokens=PROBE_TOKENS)
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


def _backoff(failed: int) -> float:
    """Seconds to wait after some failures."""
    return min(_BACKOFF * 2 ** min(failed - 1, 10), _LONGEST_BACKOFF) if failed else 0.0
