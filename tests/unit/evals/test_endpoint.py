"""A client against a real server on loopback that plays every fault a server can have."""

from __future__ import annotations

import base64
import contextlib
import json
import re
import socket
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from punie.evals import endpoint as module
from punie.evals.endpoint import ATTEMPTS, GONE, PROBE_TOKENS, Endpoint, probe
from punie.evals.replies import Reply, Request
from punie.util.errors import ConfigError, PunieError

Connect = Callable[..., Endpoint]
END = 0
IDS = [ord(letter) for letter in "<call>"]


class Letters:
    """A token is a letter."""

    eos_token_ids = frozenset({END})

    def decode(self, token_ids: Any) -> str:
        return "".join(map(chr, token_ids))


def good(**changes: Any) -> dict[str, Any]:
    """A reply as mlx_lm.server gives it, which has removed a call from the text."""
    tokens = [{"id": token, "logprob": -0.5} for token in [*IDS, END]]
    choice = {"index": 0, "finish_reason": "stop", "text": "", "logprobs": {"content": tokens}}
    usage = {"prompt_tokens": 6, "completion_tokens": len(tokens), "total_tokens": 13}
    return {"model": "default_model", "choices": [choice], "usage": usage, **changes}


def choice(**changes: Any) -> dict[str, Any]:
    """A reply whose choice differs from a good one."""
    return good(choices=[good()["choices"][0] | changes])


class Handler(BaseHTTPRequestHandler):
    """Gives the replies of a script, one after another, the last one for ever."""

    server: Stage  # ty: ignore[incompatible-mutable-override]

    def do_GET(self) -> None:
        self.send(404, b"not here")

    def do_POST(self) -> None:
        self.server.bodies.append(self.rfile.read(int(self.headers["content-length"])))
        script = self.server.script
        action = script.pop(0) if len(script) > 1 else script[0]
        if callable(action):
            action(self)
        else:
            self.send(200, json.dumps(action).encode())

    def send(self, status: int, body: bytes, **headers: object) -> None:
        headers = {"content_type": "application/json", "content_length": len(body), **headers}
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), str(value))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None: ...


class Stage(ThreadingHTTPServer):
    """A server with a script, and a record of the bodies it was sent."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.script: list[Any] = [good()]
        self.bodies: list[bytes] = []
        self.url = f"http://127.0.0.1:{self.server_address[1]}"

    def handle_error(self, request: Any, client_address: Any) -> None: ...


def raw(status: int, body: bytes, **headers: object) -> Callable[..., None]:
    """A reply as it stands."""
    return lambda handler: handler.send(status, body, **headers)


def redirect(handler: Handler) -> None:
    handler.send(302, b"", location=f"{handler.server.url}/v1/completions")


def hang_up(handler: Handler) -> None:
    handler.close_connection = True


def die(handler: Handler) -> None:
    """Take no more connections and hang up, as a killed server does."""
    handler.server.shutdown()
    handler.server.server_close()
    hang_up(handler)


def trickle(handler: Handler) -> None:
    """A byte now and then for three seconds: no single wait is long."""
    handler.send(200, b"", content_length=100_000)
    for _ in range(300):
        handler.wfile.write(b" ")
        handler.wfile.flush()
        threading.Event().wait(0.01)


@pytest.fixture
def stage() -> Iterator[Stage]:
    with Stage() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        yield server
        server.shutdown()


@pytest.fixture
def naps() -> list[float]:
    """What was slept between attempts."""
    return []


@pytest.fixture
def connect(stage: Stage, naps: list[float]) -> Iterator[Connect]:
    """Makes clients of the stage that do not sleep."""
    with contextlib.ExitStack() as clients:

        def make(**options: Any) -> Endpoint:
            client = clients.enter_context(Endpoint(stage.url, Letters(), sleep=naps.append, **options))
            naps.clear()
            return client

        yield make


def ask(client: Endpoint, *, temperature: float = 0.0, stop: tuple[str, ...] = ()) -> Reply | str:
    from punie.model.generate import Sampling

    request = Request("lsp_1#0", "prompt", 6, 20)
    return client.answer(request, Sampling(temperature, 0.9, 40, 0.05, seed=7), stop=stop)


def answered(outcome: Reply | str) -> Reply:
    assert isinstance(outcome, Reply), outcome
    return outcome


def test_a_reply_keeps_what_the_server_removes(stage: Stage, connect: Connect) -> None:
    """Where there are token ids the text comes from them, without the end token or the stop text."""
    reply = answered(ask(connect()))
    assert (reply.text, reply.tokens, reply.logprobs) == ("<call>", IDS, [-0.5] * len(IDS))
    assert (reply.finish_reason, reply.completion_tokens, reply.doubts) == ("stop", 7, ())
    stage.script = [choice(finish_reason="tool_calls")]
    assert answered(ask(connect(), stop=("ll>",))).text == "<ca"
    stage.script = [choice(finish_reason="length", logprobs={"content": [{"id": 65, "logprob": 0}] * 7})]
    cut = answered(ask(connect()))
    assert (cut.finish_reason, cut.tokens) == ("length", [65] * 7)


def test_a_server_without_ids_gives_its_own_text(stage: Stage, connect: Connect) -> None:
    """Without usable token ids the text is the server's, and tokens and log-probabilities are None."""
    for logprobs in (None, {"tokens": ["a"]}, {"content": [{"id": "a"}]}, {"content": [{"id": -1}]}):
        stage.script = [choice(text="as sent", logprobs=logprobs)]
        reply = answered(ask(connect()))
        assert (reply.text, reply.tokens, reply.logprobs) == ("as sent", None, None)


def test_all_sampling_is_sent_and_a_model_only_if_given(stage: Stage, connect: Connect) -> None:
    """Every sampling parameter is in the payload; no model is named unless the user named one."""
    sampling = {"temperature": 0.0, "top_p": 0.9, "top_k": 40, "min_p": 0.05}
    sent = {"prompt": "prompt", "max_tokens": 20, "stop": ["<think>"], "stream": False, "logprobs": True}
    ask(connect(), stop=("<think>",))
    assert json.loads(stage.bodies.pop()) == {**sent, **sampling}
    ask(connect(model="org/name", token_ids=False))
    named = json.loads(stage.bodies.pop())
    assert (named["model"], "logprobs" in named) == ("org/name", False)


def test_the_seed_belongs_to_the_request(stage: Stage, connect: Connect) -> None:
    """A sampled request's 31-bit seed depends on its id and the evaluation's seed, and on nothing else."""
    client = connect()
    ask(client, temperature=0.7)
    ask(client, temperature=0.7)
    first, second = (json.loads(body)["seed"] for body in stage.bodies)
    assert first == second == module.request_seed(7, "lsp_1#0")
    seeds = {module.request_seed(seed, f"a#{repeat}") for seed in range(20) for repeat in range(20)}
    assert len(seeds) == 400
    assert all(0 <= seed < 2**31 for seed in seeds)


FAULTS: dict[str, tuple[Any, str]] = {
    "html": (raw(200, b"<html></html>", content_type="text/html"), r"not JSON \(text/html\): <html>"),
    "truncated_body": (raw(200, b'{"choices": [', content_length=500), "RemoteProtocolError"),
    "empty_body": (raw(200, b""), "not JSON"),
    "deep_json": (raw(200, b"[" * 19_000), "not JSON"),
    "not_a_number": (raw(200, b'{"choices": NaN}'), "not JSON"),
    "half_a_character": (choice(text="\ud800", logprobs=None), "not JSON"),
    "huge_body": (raw(200, b" " * 40_000), "longer than 20,000 bytes"),
    "status_500": (raw(500, b'{"error": "out of memory"}'), "status 500: .*out of memory"),
    "redirect": (redirect, "status 302"),
    "hangs_up": (hang_up, "RemoteProtocolError"),
    "a_list": (raw(200, b"[]"), "not an object"),
    "an_error_with_200": (raw(200, b'{"error": "overloaded"}'), "no choice.*overloaded"),
    "no_choice": (good(choices=[]), "no choice"),
    "no_text": (choice(text=None), "no text"),
    "unfinished": (choice(finish_reason=None), "did not come to its end"),
    "filtered": (choice(finish_reason="content_filter"), "content_filter"),
    "an_unhashable_ending": (choice(finish_reason=["stop"]), "did not come to its end"),
    "lost_ids": (good(usage={"completion_tokens": 9}), "7 token ids"),
    "lost_logprobs": (choice(logprobs={"content": [{"id": 65}] * 7}), "no log-probability"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_missing_and_never_a_response(
    fault: str, stage: Stage, connect: Connect, naps: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever is wrong with a reply, the same bytes are sent again, then it is missing with the reason."""
    monkeypatch.setattr(module, "MAX_REPLY", 20_000)
    action, words = FAULTS[fault]
    stage.script = [action]
    reason = ask(connect())
    assert isinstance(reason, str)
    assert re.search(words, reason), reason
    assert stage.bodies == stage.bodies[:1] * ATTEMPTS
    assert naps == [0.0, 0.5, 1.0, 2.0]


def test_a_passing_fault_costs_attempts_only(stage: Stage, connect: Connect) -> None:
    """After two failed attempts a good reply counts in full."""
    stage.script = [raw(500, b"{}"), hang_up, good()]
    assert answered(ask(connect())).text == "<call>"
    assert len(stage.bodies) == 3


def test_a_reply_that_never_ends_is_given_up(stage: Stage, connect: Connect) -> None:
    """The time limit is for the whole reply, however steadily it trickles in."""
    stage.script = [trickle]
    assert ask(connect(timeout=0.1, attempts=1)) == "the reply takes longer than 0.1 s"


def test_a_server_that_dies_is_not_waited_for(stage: Stage, connect: Connect, naps: list[float]) -> None:
    """Once the server has not answered a few times in a row, all other requests are missing at once."""
    stage.script = [good(), die]
    client = connect(attempts=GONE + 1)
    first, second, *others = [ask(client) for _ in range(50)]
    assert answered(first).text == "<call>"
    assert str(second).startswith("ConnectError")
    assert set(others) == {"the server is gone"}
    assert len(naps) == 1 + GONE + 1


def test_an_unexpected_model_or_prompt_is_a_doubt(stage: Stage, connect: Connect) -> None:
    """Another model's name and another number of prompt tokens are doubts; the response is kept."""
    stage.script = [good(model="other"), good(model="other"), good(usage={"prompt_tokens": 8})]
    assert answered(ask(connect())).doubts == ()
    found = answered(ask(connect(model="mine")))
    assert found.doubts == ("the reply names the model other where mine was asked for",)
    assert found.text == "<call>"
    doubts = answered(ask(connect())).doubts
    assert doubts == ("the server read 8 prompt tokens where 6 were sent",)


@pytest.mark.parametrize(
    ("reply", "expected", "logprob", "words"),
    [
        (good(), IDS, -0.55, None),
        (good(), IDS, -0.7, "by up to 0.20 nats"),
        (good(), [*IDS[:4], 1, 2], -0.5, "differ from position 4 on"),
        (good(), [*IDS, 1], -0.5, "differ from position 6 on"),
        (good(), [], -0.5, "nothing is compared"),
        (choice(logprobs=None, text="<call>"), IDS, -0.5, "the texts of a greedy response agree"),
        (choice(logprobs=None, text="prose"), IDS, -0.5, "the texts of a greedy response differ"),
        (good(model="other"), IDS, -0.5, "names the model other"),
        (good(usage={"prompt_tokens": 7}), IDS, -0.5, "7 prompt tokens where 6"),
        (raw(503, b"loading"), IDS, -0.5, "no reply: status 503"),
    ],
)
def test_the_probe_verifies_by_token_ids(
    reply: Any, expected: list[int], logprob: float, words: str | None, stage: Stage, connect: Connect
) -> None:
    """Only equal token ids of like log-probability under the expected name and prompt verify a server; else
    the reason is told."""
    stage.script = [reply]
    name = "default_model" if "names" in str(words) else None
    difference = probe(connect(model=name), "prompt", list(range(6)), expected, [logprob] * len(expected))
    assert difference is None if words is None else words in str(difference)
    sent = json.loads(stage.bodies[0])
    assert (sent["temperature"], sent["max_tokens"]) == (0.0, PROBE_TOKENS)


URLS = {
    "localhost:8080": "scheme", "file:///etc/passwd": "scheme", "": "scheme", "http://": "no host",
    "http://host:port": "port", "http://host:99999": "99999", "http://host/v1?key=1": "query",
    "http://me:secret@host:port": "port", "http://me:secret@host": "~/.netrc",
}  # fmt: skip


@pytest.mark.parametrize("url", URLS)
def test_a_malformed_url_is_refused(url: str) -> None:
    """What is not the http(s) URL of a server is refused, with the config key and without its password."""
    with pytest.raises(ConfigError, match=r"eval\.server\.url") as caught:
        Endpoint(url, Letters())
    assert URLS[url] in str(caught.value.found)
    assert "secret" not in str(caught.value)


def test_a_proxy_is_not_asked_for_loopback(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """The URL may name the version, and the environment's proxies are not used for a loopback address."""
    for name in ("HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for suffix in ("", "/", "/v1", "/v1/"):
        with Endpoint(stage.url + suffix, Letters()) as client:
            assert answered(ask(client)).text == "<call>"


def test_nobody_at_the_start_is_an_error(naps: list[float]) -> None:
    """A server that never answers is an error that names the URL, before any prompt is sent."""
    with socket.socket() as taken:  # bound, but not listening
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(PunieError, match="does not answer") as caught:
            Endpoint(url, Letters(), sleep=naps.append).__enter__()
    assert url in str(caught.value.where)
    assert len(naps) == ATTEMPTS


def test_a_password_goes_only_to_the_host_it_is_for(
    stage: Stage, connect: Connect, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """~/.netrc's user and password are sent to the host that they are for, and to no other; tokens of the hub
    are not sent; a file that is none is told as such."""
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("HF_TOKEN", "OPENAI_API_KEY"):
        monkeypatch.setenv(name, "hub-token")
    seen = []

    def look(handler: Handler) -> None:
        assert "hub-token" not in str(handler.headers)
        seen.append(handler.headers["authorization"])
        raw(200, b"{}")(handler)

    stage.script = [look]
    for words in ("", "machine 127.0.0.1 login me password secret", "machine other login me password secret"):
        (tmp_path / ".netrc").write_text(words)
        (tmp_path / ".netrc").chmod(0o600)
        ask(connect(attempts=1))
    assert seen == [None, f"Basic {base64.b64encode(b'me:secret').decode()}", None]
    (tmp_path / ".netrc").write_text("nonsense")
    with pytest.raises(ConfigError, match=r"~/\.netrc"):
        Endpoint(stage.url, Letters())
