"""mlx_lm.server as it is started here, with the embedded model, against this process."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import psutil
import pytest

from punie.evals.endpoint import PROBE_TOKENS, Endpoint, probe
from punie.evals.replies import Reply, Request
from punie.evals.serve import Server, serve
from punie.formats.chat import Chat, Conversation
from punie.formats.code_mode import FORMAT
from punie.model import blas
from punie.util.errors import PunieError
from punie.util.paths import resource

QUESTIONS = ["Show me src/app.py", "Which files mention the session store?", "Is ruff happy with src/web?"]


@dataclass(frozen=True)
class Local:
    """A model in this process."""

    loaded: Any

    def prompt(self, question: str) -> list[int]:
        talk = Conversation([{"role": "user", "content": question}])
        return Chat(self.loaded.tokenizer, FORMAT).prompt_tokens(talk)

    def text(self, question: str) -> str:
        return self.loaded.tokenizer.decode(self.prompt(question))

    def request(self, question: str, max_tokens: int = 40) -> Request:
        talk = Conversation([{"role": "user", "content": question}])
        turns = Chat(self.loaded.tokenizer, FORMAT).request(talk)
        return Request(f"{question}#0", self.text(question), len(self.prompt(question)), max_tokens, turns)

    def greedy(self, question: str, max_tokens: int = 40, stop: tuple[str, ...] = ()) -> Any:
        from punie.model import generate

        request = generate.Request(f"{question}#0", self.prompt(question), max_tokens)
        return generate.generate(
            self.loaded.model,
            self.loaded.tokenizer,
            [request],
            sampling(0.0),
            stop=stop,
            batch_size=1,
            done=lambda _: None,
        )[0]


def sampling(temperature: float) -> Any:
    from punie.model.generate import Sampling

    return Sampling(temperature, seed=3)


def local(folder: Path) -> Local:
    from punie.model import load

    return Local(load.load(folder, float32=True))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The embedded model with its word ``read`` respelled as <tool_call>, so that it starts tool calls."""
    copy = tmp_path_factory.mktemp("server") / "model"
    shutil.copytree(resource("data/models/tiny"), copy)
    content = json.loads((copy / "tokenizer.json").read_text())
    added, bpe = content["added_tokens"], content["model"]
    next(token for token in added if token["content"] == "<tool_call>")["content"] = "<unused>"
    bpe["vocab"]["<tool_call>"] = bpe["vocab"].pop("read")
    bpe["merges"] = [pair for pair in bpe["merges"] if "read" not in ("".join(pair), *pair)]
    (copy / "tokenizer.json").write_text(json.dumps(content))
    config = json.loads((copy / "tokenizer_config.json").read_text())
    (copy / "tokenizer_config.json").write_text(json.dumps(config | {"tool_parser_type": "qwen3_coder"}))
    return copy


@pytest.fixture(scope="module")
def mine(folder: Path) -> Local:
    return local(folder)


@pytest.fixture(scope="module")
def server(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serve(folder, log=tmp_path_factory.mktemp("log") / "server.log", float32=True) as running:
        yield running


@pytest.fixture(scope="module")
def endpoint(server: Server, mine: Local) -> Iterator[Endpoint]:
    with Endpoint(server.url, mine.loaded.tokenizer) as client:
        yield client


def answered(outcome: Reply | str) -> Reply:
    assert isinstance(outcome, Reply), outcome
    return outcome


@pytest.mark.parametrize("question", QUESTIONS)
@pytest.mark.parametrize("max_tokens", [4, 40])
def test_the_server_and_this_process_answer_alike(
    question: str, max_tokens: int, mine: Local, endpoint: Endpoint
) -> None:
    """A greedy answer has the same tokens, text, end and, nearly, log-probabilities by either way."""
    reply = answered(endpoint.answer(mine.request(question, max_tokens), sampling(0.0)))
    answer = mine.greedy(question, max_tokens)
    assert (reply.tokens, reply.text, reply.finish_reason) == (
        answer.tokens,
        answer.text,
        answer.finish_reason,
    )
    assert reply.logprobs == pytest.approx(answer.logprobs, abs=1e-3)
    assert reply.doubts == ()


def test_a_stop_text_ends_both_alike(mine: Local, endpoint: Endpoint) -> None:
    """A stop text ends an answer at the same place and is in neither text."""
    whole = mine.greedy(QUESTIONS[0])
    word = mine.loaded.tokenizer.decode(whole.tokens[3:4])
    assert word
    assert whole.text.count(word) == 1
    answer = mine.greedy(QUESTIONS[0], stop=(word,))
    reply = answered(endpoint.answer(mine.request(QUESTIONS[0]), sampling(0.0), stop=(word,)))
    assert reply.text == answer.text == whole.text.split(word)[0]
    assert (reply.tokens, reply.finish_reason) == (answer.tokens, "stop")


def test_tool_calls_are_kept(server: Server, mine: Local, endpoint: Endpoint) -> None:
    """The server drops a tool call from a completion's text; the reply has it, from the token ids."""
    request = mine.request(QUESTIONS[0])
    payload = {"prompt": request.prompt, "max_tokens": request.max_tokens, "temperature": 0.0}
    sent = httpx2.post(f"{server.url}/v1/completions", json=payload, timeout=60).json()
    assert (sent["choices"][0]["text"], sent["choices"][0]["finish_reason"]) == ("", "tool_calls")
    reply = answered(endpoint.answer(request, sampling(0.0)))
    assert reply.text.startswith("<tool_call>_file(")
    assert reply.finish_reason == "stop"


@pytest.mark.parametrize("question", QUESTIONS)
def test_the_chat_api_answers_alike(question: str, server: Server, mine: Local) -> None:
    """The server renders the same prompt with the model's template, and its token ids are the whole response;
    without them a call that it drops is missing, and never an empty response."""
    answer = mine.greedy(question)
    with Endpoint(server.url, mine.loaded.tokenizer, api="chat") as client:
        reply = answered(client.answer(mine.request(question), sampling(0.0)))
    assert (reply.tokens, reply.text) == (answer.tokens, answer.text)
    assert reply.doubts == ()
    with Endpoint(server.url, mine.loaded.tokenizer, api="chat", token_ids=False, attempts=1) as client:
        outcome = client.answer(mine.request(question), sampling(0.0))
    if "<tool_call>" in answer.text:
        assert re.search("0 characters, but [0-9]+ tokens were generated", str(outcome))
    else:
        assert answered(outcome).text == answer.text


def test_draws_depend_on_the_request_alone(mine: Local, endpoint: Endpoint) -> None:
    """At a temperature, the same request is answered alike whatever came before it; another id, not so."""
    requests = [mine.request(question) for question in QUESTIONS]
    others = [Request(f"{each.id}1", each.prompt, each.prompt_tokens, each.max_tokens) for each in requests]
    forth = [answered(endpoint.answer(each, sampling(1.5))).tokens for each in requests]
    back = [answered(endpoint.answer(each, sampling(1.5))).tokens for each in reversed(requests)]
    assert forth == back[::-1]
    assert forth != [answered(endpoint.answer(each, sampling(1.5))).tokens for each in others]


def test_the_model_itself_is_verified(mine: Local, endpoint: Endpoint) -> None:
    """The probe verifies a server that was started with the model, with no model named."""
    question = QUESTIONS[1]
    expected = mine.greedy(question, PROBE_TOKENS).tokens
    assert probe(endpoint, mine.request(question), expected) is None


def test_another_model_is_not_verified(mine: Local, endpoint: Endpoint) -> None:
    """Against another model's greedy answer to the same prompt, the probe tells where they part."""
    dense = local(resource("data/models/tiny_dense"))
    question = QUESTIONS[1]
    expected = dense.greedy(question, PROBE_TOKENS).tokens
    difference = probe(endpoint, mine.request(question), expected)
    assert "differ from position" in str(difference)


def test_a_name_that_the_server_does_not_have_is_refused(server: Server, mine: Local) -> None:
    """A request that names another model ends with the server's words; nothing is downloaded for it."""
    with (
        Endpoint(server.url, mine.loaded.tokenizer, model="owner/name") as client,
        pytest.raises(PunieError, match="refuses the first request") as caught,
    ):
        client.answer(mine.request(QUESTIONS[0]), sampling(0.0))
    assert "owner/name" in str(caught.value.found)


def test_it_computes_as_this_process_does_and_listens_to_this_machine_alone(server: Server) -> None:
    """The server's log names the BLAS that is in use here, and float32; every address is 127.0.0.1."""
    assert f"float32: True, BLAS: {blas.in_use()}" in server.log.read_text()
    leader = psutil.Process(server.process.pid)
    bound = {
        connection.laddr.ip
        for process in (leader, *leader.children(recursive=True))
        for connection in process.net_connections(kind="inet")
        if connection.status == psutil.CONN_LISTEN
    }
    assert bound == {"127.0.0.1"}


def test_an_adapter_is_served_until_the_server_dies(folder: Path, tmp_path: Path) -> None:
    """With an adapter the answers are those of model and adapter; once killed, it is said how it ended."""
    adapted = Local(load_with_noise(folder, tmp_path))
    question = QUESTIONS[0]
    expected = adapted.greedy(question, PROBE_TOKENS).tokens
    assert expected != local(folder).greedy(question, PROBE_TOKENS).tokens
    naps: list[float] = []
    with (
        serve(folder, log=tmp_path / "server.log", adapter=tmp_path, float32=True) as server,
        Endpoint(server.url, adapted.loaded.tokenizer, sleep=naps.append) as client,
    ):
        assert probe(client, adapted.request(question), expected) is None
        assert server.ended() is None
        server.process.kill()
        server.process.wait()
        outcomes = [client.answer(adapted.request(each), sampling(0.0)) for each in QUESTIONS]
        assert all(isinstance(outcome, str) for outcome in outcomes)
        assert outcomes[-1] == "the server is gone"
        assert "exit code -9" in str(server.ended())
    assert not psutil.pid_exists(server.process.pid)


def load_with_noise(folder: Path, target: Path) -> Any:
    """The model with an adapter of random weights, which is saved in a folder."""
    import mlx.core as mx
    from mlx.utils import tree_flatten

    from punie.model import load
    from punie.train import adapter

    model = load.load(folder, float32=True).model
    options: dict[str, Any] = {"fine_tune_type": "lora", "num_layers": 2, "rank": 4, "scale": 20.0}
    description = adapter.attach(model, **options, dropout=0.0, keys=None, seed=0)
    weights: dict[str, Any] = dict(tree_flatten(model.trainable_parameters()))
    noise = {
        name: mx.random.normal(value.shape, scale=0.1, key=mx.random.key(index))
        for index, (name, value) in enumerate(weights.items())
    }
    mx.save_safetensors(str(target / "adapters.safetensors"), noise)
    (target / "adapter_config.json").write_text(json.dumps(description))
    return load.load(folder, adapter=target, float32=True)


def test_a_server_that_is_not_ready_in_time_is_stopped(tmp_path: Path) -> None:
    """A start that takes longer than its time limit is an error, and nothing is left running."""
    before = set(psutil.Process().children(recursive=True))
    with (
        pytest.raises(PunieError, match="not ready in time"),
        serve(resource("data/models/tiny"), log=tmp_path / "server.log", timeout=0.05),
    ):
        pytest.fail("the block was entered")
    assert set(psutil.Process().children(recursive=True)) <= before


def test_the_server_ends_with_its_parent(folder: Path, tmp_path: Path) -> None:
    """A kill of the parent does not leave the server behind."""
    code = (
        "import sys, time\nfrom pathlib import Path\nfrom punie.evals.serve import serve\n"
        "with serve(Path(sys.argv[1]), log=Path(sys.argv[2]), float32=True) as server:\n"
        "    print(server.process.pid, flush=True)\n    time.sleep(60)\n"
    )
    command = [sys.executable, "-c", code, str(folder), str(tmp_path / "log")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        assert psutil.pid_exists(pid)
        parent.kill()
    deadline = time.monotonic() + 10
    while psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline
        time.sleep(0.05)
