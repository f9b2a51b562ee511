"""A client against a real server on loopback that plays every fault a server can have."""

from __future__ import annotations

import contextlib
import email.utils
import json
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from punie.evals import endpoint as module
from punie.evals.endpoint import ATTEMPTS, GONE, PROBE_TOKENS, Endpoint, probe
from punie.evals.replies import Reply, Request
from punie.evals.transport import api_key
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
        self.play(self.server.health)

    def do_POST(self) -> None:
        self.server.bodies.append(self.rfile.read(int(self.headers["content-length"])))
        self.server.paths.append(self.path)
        self.play(self.server.script)

    def play(self, script: list[Any]) -> None:
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
        self.health: list[Any] = [raw(404, b"not here")]
        self.bodies: list[bytes] = []
        self.paths: list[str] = []
        self.url = f"http://127.0.0.1:{self.server_address[1]}"

    def handle_error(self, request: Any, client_address: Any) -> None: ...


def raw(status: int, body: bytes, **headers: object) -> Callable[..., None]:
    """A reply as it stands."""
    return lambda handler: handler.send(status, body, **headers)


def redirect(route: str, status: int = 307) -> Callable[..., None]:
    """To another route of this server; to itself for none."""
    return lambda handler: handler.send(status, b"", location=route or handler.path)


def hang_up(handler: Handler) -> None:
    handler.close_connection = True


def die(handler: Handler) -> None:
    """Take no more connections and hang up, as a killed server does."""
    handler.server.shutdown()
    handler.server.server_close()
    hang_up(handler)


def trickle(begin: bytes, more: bytes) -> Callable[..., None]:
    """A little now and then for three seconds: no single wait is long."""

    def act(handler: Handler) -> None:
        handler.wfile.write(begin)
        for _ in range(300):
            handler.wfile.write(more)
            handler.wfile.flush()
            threading.Event().wait(0.01)

    return act


ENDLESS = {
    "body": trickle(b"HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n", b" "),
    "headers": trickle(b"HTTP/1.1 200 OK\r\n", b"x: y\r\n"),
    "continue": trickle(b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 100),
    "hints": trickle(b"", b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n" * 500),
    "nothing": trickle(b"", b""),
}


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
    sent = {"prompt": "prompt", "max_tokens": 20, "stop": ["<think>"], "stream": False, "logprobs": True,
            "return_token_ids": True, "skip_special_tokens": False}  # fmt: skip
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
    "huge_body": (raw(200, b" " * 100_000), "longer than 86,028 bytes"),
    "status_500": (raw(500, b'{"error": "out of memory"}'), "status 500: out of memory"),
    "hangs_up": (hang_up, "RemoteProtocolError"),
    "redirects_for_ever": (redirect(""), "more than 5 redirects"),
    "a_list": (raw(200, b"[]"), "not an object"),
    "an_error_with_200": (raw(200, b'{"error": "overloaded"}'), "no choice.*overloaded"),
    "no_choice": (good(choices=[]), "no choice"),
    "no_text": (choice(text=None, logprobs=None), "no text"),
    "unfinished": (choice(finish_reason=None), "did not come to its end"),
    "filtered": (choice(finish_reason="content_filter"), "content_filter"),
    "an_unhashable_ending": (choice(finish_reason=["stop"]), "did not come to its end"),
    "lost_ids": (good(usage={"completion_tokens": 9}), "7 token ids"),
    "lost_logprobs": (choice(logprobs={"content": [{"id": 65}] * 7}), "no log-probability"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_missing_and_never_a_response(
    fault: str, stage: Stage, connect: Connect, naps: list[float]
) -> None:
    """Whatever is wrong with a reply, the same bytes are sent again, then it is missing with the reason. A
    server that breaks on every one of them is asked once more, without what it might not know."""
    action, words = FAULTS[fault]
    stage.script = [action]
    reason = ask(connect())
    assert isinstance(reason, str)
    assert re.search(words, reason), reason
    assert naps == [0.0, 0.5, 1.0, 2.0]
    more = [body for body in stage.bodies if body != stage.bodies[0]]
    assert len(stage.bodies) - len(more) == ATTEMPTS * (5 if fault == "redirects_for_ever" else 1)
    assert len(more) == (fault in ("truncated_body", "status_500", "hangs_up"))
    assert not any(b"logprobs" in body for body in more)


def test_a_passing_fault_costs_attempts_only(stage: Stage, connect: Connect) -> None:
    """After two failed attempts a good reply counts in full."""
    stage.script = [raw(500, b"{}"), hang_up, good()]
    assert answered(ask(connect())).text == "<call>"
    assert len(stage.bodies) == 3


@pytest.mark.parametrize("kind", ENDLESS)
def test_a_reply_that_never_ends_is_given_up(kind: str, stage: Stage, connect: Connect) -> None:
    """The time limit is for a whole exchange, whatever trickles in, also when the server is first seen."""
    stage.script = [ENDLESS[kind]]
    client = connect(timeout=0.1, attempts=1)
    assert ask(client) == "the reply takes longer than 0.1 s"
    stage.health = [ENDLESS[kind]]
    with pytest.raises(PunieError, match="does not answer") as caught:
        connect(timeout=0.1, attempts=1)
    assert "longer than 0.1 s" in str(caught.value.found)


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
        (choice(logprobs=None, text="long prose"), IDS, -0.5, "the texts of a greedy response differ"),
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
    asked = Request("a#0", "prompt", 6, 20)
    difference = probe(connect(model=name), asked, expected, [logprob] * len(expected))
    assert difference is None if words is None else words in str(difference)
    sent = json.loads(stage.bodies[0])
    assert (sent["temperature"], sent["max_tokens"]) == (0.0, PROBE_TOKENS)


URLS = {
    "localhost:8080": "scheme", "file:///etc/passwd": "scheme", "": "scheme", "http://": "no host",
    "http://host:port": "port", "http://host:99999": "99999", "http://host/v1?key=1": "query",
    "http://me:secret@host:port": "port", "http://me:secret@host": "api_key_env",
    "http://host/v1/chat/completions": "another API",
}  # fmt: skip


@pytest.mark.parametrize("url", URLS)
def test_a_malformed_url_is_refused(url: str) -> None:
    """What is not the http(s) URL of a server is refused, with the config key and without its password."""
    with pytest.raises(ConfigError, match=r"eval\.server\.url") as caught:
        Endpoint(url, Letters())
    assert URLS[url] in str(caught.value.found)
    assert "secret" not in str(caught.value)


def test_a_proxy_is_not_asked_for_loopback(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment's proxies are not used for a loopback address."""
    for name in ("HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    with Endpoint(stage.url, Letters()) as client:
        assert answered(ask(client)).text == "<call>"


def only(path: str) -> Callable[..., None]:
    """A server that has one route."""

    def act(handler: Handler) -> None:
        there = handler.path == path
        handler.send(200 if there else 404, json.dumps(good()).encode() if there else b"Not Found")

    return act


ADDRESSES = [
    ("", "completions", "/v1/completions", 1),
    ("/v1/", "completions", "/v1/completions", 1),
    ("/v1/completions", "completions", "/v1/completions", 1),
    ("/completions", "completions", "/completions", 1),
    ("", "completions", "/completions", 2),
    ("/api/v3", "chat", "/api/v3/chat/completions", 2),
    ("/route/v1", "chat", "/route/v1/chat/completions", 1),
    ("/v1/chat/completions", "chat", "/v1/chat/completions", 1),
]


@pytest.mark.parametrize(("given", "api", "served", "requests"), ADDRESSES)
def test_the_address_may_be_given_in_any_way(
    given: str, api: str, served: str, requests: int, stage: Stage
) -> None:
    """With or without /v1, behind a route, and as the whole address of the API; what was found is kept."""
    stage.script = [only(served)]
    with Endpoint(stage.url + given, Letters(), api=api) as client:
        assert answered(ask(client)).text == "<call>"
        assert len(stage.paths) == requests
        ask(client)
        assert stage.paths[requests:] == [served]


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_a_redirect_is_followed_on_the_same_host(status: int, stage: Stage, connect: Connect) -> None:
    """The same body is posted to where it leads; later requests go there at once."""
    stage.script = [redirect("/moved/v1/completions", status), good()]
    client = connect()
    assert answered(ask(client)).text == "<call>"
    ask(client)
    assert stage.paths == ["/v1/completions", *["/moved/v1/completions"] * 2]
    assert len(set(stage.bodies)) == 1


@pytest.mark.parametrize(
    "place",
    ["http://localhost:{port}/v1", "http://127.0.0.1:9/v1", "//127.0.0.2/", "ftp://127.0.0.1:{port}/"],
)
def test_a_redirect_to_another_host_ends_the_evaluation(place: str, stage: Stage, connect: Connect) -> None:
    """Nothing is sent there: neither to another name, nor to another port, nor by another scheme."""
    stage.script = [redirect(place.format(port=stage.server_address[1]))]
    with pytest.raises(PunieError, match="refuses the first request") as caught:
        ask(connect(key="sk-secret"))
    assert "another host" in str(caught.value.found)
    assert len(stage.paths) == 1


REFUSALS = [
    (401, b'{"error": {"message": "Unauthorized"}}', "eval.server.api_key_env"),
    (403, b"<html>Forbidden</html>", "eval.server.api_key_env"),
    (404, b'{"detail": "Not Found"}', "eval.server.api=chat"),
    (404, b'{"error": {"message": "The model `m` does not exist"}}', "eval.server.model"),
    (405, b"", "eval.server.api=chat"),
    (400, b'{"error": {"message": "model is required"}}', "eval.server.model"),
    (400, b'{"message": "This model\'s maximum context length is 512 tokens"}', "eval.max_tokens"),
    (422, b'{"detail": [{"loc": ["body", "stop"], "msg": "none is not allowed"}]}', "what the server names"),
    (402, b'{"message": "no credit \\ud800"}', "what the server names"),
]


@pytest.mark.parametrize(("status", "body", "step"), REFUSALS)
def test_a_refusal_that_will_not_change_ends_the_evaluation(
    status: int, body: bytes, step: str, stage: Stage, connect: Connect, naps: list[float]
) -> None:
    """At the first request, with the address, the status, the server's words and the next step."""
    stage.script = [raw(status, body)]
    with pytest.raises(PunieError, match="refuses the first request") as caught:
        ask(connect())
    assert caught.value.where == f"POST {stage.url}/v1/completions"
    assert f"status {status}" in str(caught.value.found)
    assert step in str(caught.value.next_step)
    str(caught.value).encode()
    assert len(stage.paths) <= 2
    assert naps == [0.0]


def test_a_refusal_of_a_later_request_is_missing_at_once(stage: Stage, connect: Connect) -> None:
    """Once the server has answered, a refusal concerns one prompt: it is not sent again, and others are."""
    stage.script = [good(), raw(400, b'{"error": "the prompt is too long"}'), good()]
    client = connect()
    assert answered(ask(client)).text == "<call>"
    assert ask(client) == "status 400: the prompt is too long"
    assert answered(ask(client)).text == "<call>"
    assert len(stage.bodies) == 3


def test_a_busy_server_is_waited_for(stage: Stage, connect: Connect, naps: list[float]) -> None:
    """As long as it asks, in seconds or until a date, else longer each time; this costs no attempt."""
    date = email.utils.formatdate(time.time() + 30, usegmt=True)
    stage.script = [
        raw(429, b"", retry_after=4),
        raw(503, b"loading", retry_after=date),
        raw(502, b"<html>"),
        raw(504, b"", retry_after="soon"),
        raw(429, b"", retry_after=0),
        good(),
    ]
    assert answered(ask(connect(attempts=2))).text == "<call>"
    assert [round(nap) for nap in naps] == [0, 4, pytest.approx(30, abs=2), 2, 4, 0]


@pytest.mark.parametrize(("wait", "requests"), [(None, 77), (100, 4), (3600, 1), ("9" * 400, 77)])
def test_patience_has_a_limit(
    wait: object, requests: int, stage: Stage, connect: Connect, naps: list[float]
) -> None:
    """A server that stays busy is given up after five minutes, and all other requests with it; one that asks
    for a longer wait at once; one that is not to be asked again, too."""
    stage.script = [raw(429, b"try later", **({} if wait is None else {"retry_after": wait}))]
    client = connect()
    assert "status 429: try later; waited" in str(ask(client))
    assert len(stage.bodies) == pytest.approx(requests, abs=2)
    assert sum(naps) <= module.PATIENCE
    assert ask(client) == "the server is gone"
    with Endpoint(stage.url, Letters(), attempts=1, sleep=naps.append) as hasty:
        stage.bodies.clear()
        assert ask(hasty) == "status 429: try later"
        assert len(stage.bodies) == 1


def test_a_server_that_is_not_ready_is_waited_for(stage: Stage, connect: Connect) -> None:
    """/health with status 503 is waited for, and after half a minute a request decides."""
    naps: list[float] = []
    loading = raw(503, b'{"error": {"message": "Loading model"}}')
    stage.health = [loading] * 3 + [raw(200, b"{}")]
    with Endpoint(stage.url, Letters(), sleep=naps.append) as client:
        assert naps == [0.0, 0.5, 1.0, 2.0]
        assert answered(ask(client)).text == "<call>"
    stage.health = [loading]
    with Endpoint(stage.url, Letters(), sleep=naps.append) as client:
        assert answered(ask(client)).text == "<call>"


def refusing(*names: str, status: int = 400, words: str = "Unknown parameter: {}") -> Callable[..., None]:
    """A server that does not take some parameters."""

    def act(handler: Handler) -> None:
        sent = json.loads(handler.server.bodies[-1])
        name = next((each for each in names if each in sent), None)
        if name is None:
            handler.send(200, json.dumps(choice(logprobs=None, text="a response")).encode())
        elif status:
            handler.send(status, json.dumps({"error": {"message": words.format(name)}}).encode())
        else:
            hang_up(handler)

    return act


DIALECTS = [
    (refusing("logprobs"), {"logprobs"}),
    (refusing("top_k", "min_p", "seed", "stop", status=422), {"top_k", "min_p", "seed", "stop"}),
    (refusing("logprobs", words="expected an integer, got a boolean"), ALL := {
        "logprobs", "return_token_ids", "skip_special_tokens", "seed", "min_p", "top_k", "stop"}),
    (refusing("return_token_ids", status=0), ALL),
    (refusing("logprobs", status=500), ALL),
]  # fmt: skip


@pytest.mark.parametrize(("server", "without"), DIALECTS)
def test_what_a_server_refuses_is_left_out_and_noted(
    server: Any, without: set[str], stage: Stage, connect: Connect
) -> None:
    """The request is sent again without it, once; the others are sent without it at once, and the notes say
    so. A stop text that the server does not know ends the response here."""
    stage.script = [server]
    client = connect(attempts=2)
    reply = answered(ask(client, temperature=0.7, stop=("spo",)))
    assert reply.text == "a re"
    whole, last = json.loads(stage.bodies[0]), json.loads(stage.bodies[-1])
    assert whole.keys() - last.keys() == without
    (note,) = client.notes
    assert all(name in note for name in without)
    assert ("top_k=40" in note) == ("top_k" in without)
    count = len(stage.bodies)
    ask(client, temperature=0.7, stop=("spo",))
    assert len(stage.bodies) == count + 1
    assert client.notes == [note]


def test_a_parameter_is_left_out_only_where_that_helps(stage: Stage, connect: Connect) -> None:
    """A refusal that stays without the optional parameters is the request's own, and nothing is noted; what a
    server has taken once is not left out later."""
    stage.script = [raw(400, b'{"error": "top_k must be at least 1; the prompt is empty"}')]
    client = connect()
    with pytest.raises(PunieError, match="refuses"):
        ask(client)
    assert len(stage.bodies) == 3
    stage.script = [good(), raw(400, b"no logprobs, please")]
    ask(client)
    assert ask(client) == "status 400: no logprobs, please"
    assert client.notes == []


def test_the_chat_api_is_sent_turns_and_tools(stage: Stage, connect: Connect) -> None:
    """By the chat API no prompt is sent; token ids in the reply decide there, too."""
    turns = {"messages": [{"role": "user", "content": "Hi"}], "tools": [{"type": "function"}],
             "chat_template_kwargs": {"enable_thinking": False}}  # fmt: skip
    from punie.model.generate import Sampling

    request = Request("lsp_1#0", "prompt", 6, 20, chat=turns)
    assert answered(connect(api="chat").answer(request, Sampling(0.0))).text == "<call>"
    sent = json.loads(stage.bodies[0])
    assert {key: sent[key] for key in turns} == turns
    assert "prompt" not in sent
    assert stage.paths == ["/v1/chat/completions"]


def test_nobody_at_the_start_is_an_error(naps: list[float]) -> None:
    """A server that never answers is an error that names the URL, before any prompt is sent."""
    with socket.socket() as taken:  # bound, but not listening
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(PunieError, match="does not answer") as caught:
            Endpoint(url, Letters(), sleep=naps.append).__enter__()
    assert url in str(caught.value.where)
    assert len(naps) == ATTEMPTS


def test_a_key_goes_into_the_header_alone(
    stage: Stage, connect: Connect, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The key is a bearer token, or has its own scheme; where a server repeats it, it is masked. ~/.netrc and
    other keys of the environment are not used."""
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".netrc").write_text("default login me password hub-token")
    (tmp_path / ".netrc").chmod(0o600)
    for name in ("HF_TOKEN", "OPENAI_API_KEY"):
        monkeypatch.setenv(name, "hub-token")
    seen = []

    def look(handler: Handler) -> None:
        seen.append(handler.headers["authorization"])
        raw(401, f'{{"error": "Incorrect API key provided: {seen[-1]}"}}'.encode())(handler)

    stage.script = [look]
    for key in (None, "sk-secret", "Basic c2VjcmV0"):
        with pytest.raises(PunieError) as caught:
            ask(connect(key=key))
        shown = str(caught.value) + repr(caught.value.__dict__)
        assert "secret" not in shown
        assert "c2VjcmV0" not in shown
        assert "api_key_env" in shown
    assert seen == [None, "Bearer sk-secret", "Basic c2VjcmV0"]


@pytest.mark.parametrize("value", [None, "", "  ", "sk-ünïcode", "sk-a\nb"])
def test_a_variable_without_a_key_is_refused(value: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """A variable that is not set, or holds what no header can, is named without its value."""
    monkeypatch.delenv("MY_KEY", raising=False)
    if value is not None:
        monkeypatch.setenv("MY_KEY", value)
    with pytest.raises(ConfigError, match="api_key_env=MY_KEY") as caught:
        api_key("MY_KEY")
    assert "sk-" not in str(caught.value)
    monkeypatch.setenv("MY_KEY", " sk-key \n")
    assert (api_key("MY_KEY"), api_key(None)) == ("sk-key", None)
