"""An evaluation by a server, from the probes of its identity to what is said of it."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from punie.config.schema import ServerConfig
from punie.evals.replies import Reply, Request
from punie.stages import serving
from punie.util.errors import PunieError
from tests.unit.evals.test_endpoint import IDS, Letters, Stage, choice, good, hang_up, raw


@pytest.fixture
def stage() -> Iterator[Stage]:
    with Stage() as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        yield server
        server.shutdown()


ASKED = [Request(f"s{n}#0", "prompt", 6, 20, chat={"messages": []}) for n in range(27)]


def opened(stage: Stage, **options: Any) -> contextlib.AbstractContextManager[serving.Service]:
    from punie.model.generate import Answer, Sampling

    probed = [Answer(each.id, "<call>", list(IDS), [-0.5] * len(IDS), "stop", 0.1) for each in ASKED[:4]]
    return serving.opened(
        Letters(),
        probed,
        Sampling(0.0),
        stop=(),
        options=ServerConfig(url=stage.url, retries=0, **options),
        own=contextlib.nullcontext(),  # ty: ignore[invalid-argument-type] - never entered
    )


def served(stage: Stage, **options: Any) -> tuple[serving.Service, Sequence[Reply | str]]:
    with opened(stage, **options) as service:
        return service, service.ask(ASKED, lambda _: None)


def test_a_server_is_verified_by_completions_alone(stage: Stage) -> None:
    """The same token ids verify a server that got the prompt, and not one that has rendered it."""
    found, answers = served(stage)
    assert (found.unverified, found.notes) == (None, [])
    assert len(answers) == 27
    rendered = "the server rendered the prompts, with its own chat template"
    assert served(stage, api="chat")[0].unverified == rendered


def test_a_server_is_asked_in_rounds(stage: Stage) -> None:
    """Its identity is probed once, before the first round; in a later one no response is no error."""
    again, counted = [Request(f"s{n}#0.2", "prompt", 6, 20) for n in range(2)], list[int]()
    with opened(stage) as service:
        service.ask(ASKED, lambda _: None)
        assert len(stage.bodies) == serving.PROBES + len(ASKED)
        stage.script = [raw(500, b"broken")]
        assert service.ask(again, counted.append) == ["status 500: broken"] * 2
    assert counted == [1, 2]
    assert len(stage.bodies) == serving.PROBES + len(ASKED) + len(again)
    assert service.unverified is None


def test_what_the_server_lacks_is_said(stage: Stage) -> None:
    """Without log-probabilities, which it refuses, the server is unverified, and its responses count."""

    def act(handler: Any) -> None:
        if b"logprobs" in stage.bodies[-1]:
            raw(400, b"no logprobs")(handler)
        else:
            raw(200, b'{"choices": [{"text": "<call>", "finish_reason": "stop"}]}')(handler)

    stage.script = [act]
    found, answers = served(stage)
    assert found.unverified == "the server gives no token ids; the texts of a greedy response agree"
    (note,) = found.notes
    assert "without logprobs, which it refuses (status 400: no logprobs)" in note
    assert all(isinstance(each, Reply) for each in answers)


@pytest.mark.parametrize(
    ("action", "words", "requests"),
    [
        (raw(200, b"<html>Welcome</html>"), "not JSON", 4),
        (raw(200, b'{"error": "Unexpected endpoint"}'), "Unexpected endpoint", 4),
        (raw(503, b"loading"), "status 503: loading", 4),
        (hang_up, "RemoteProtocolError", 8),
        (raw(401, b""), "status 401", 1),
        (choice(text="", logprobs=None), "0 characters, but 7 tokens", 31),
    ],
)  # fmt: skip
def test_a_server_that_answers_no_probe_is_not_asked_further(
    action: Any, words: str, requests: int, stage: Stage
) -> None:
    """If no probe brings a reply, the evaluation ends there, with the address and the reason; where replies
    come, but no response, all prompts are tried."""
    stage.script = [action]
    with pytest.raises(PunieError) as caught:
        served(stage)
    assert words in str(caught.value.found)
    assert f"{stage.url}/v1/completions" in str(caught.value.where)
    assert "eval.server.api" in str(caught.value.next_step)
    assert len(stage.bodies) == requests


def test_a_key_comes_from_the_variable_that_is_named(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """The config holds the variable's name, and the request the key."""
    monkeypatch.setenv("MY_KEY", "sk-secret")
    seen = set()

    def look(handler: Any) -> None:
        seen.add(handler.headers["authorization"])
        raw(200, json.dumps(good()).encode())(handler)

    stage.script = [look]
    served(stage, api_key_env="MY_KEY")
    assert seen == {"Bearer sk-secret"}
