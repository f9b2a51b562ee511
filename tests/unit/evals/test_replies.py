"""What servers send, in the shapes that are known of them, and what is read of it.

Shapes of mlx_lm.server, llama.cpp, vLLM, Ollama, LM Studio, TGI and OpenAI, by both APIs.
"""

from __future__ import annotations

import json
from typing import Any

import pytest

from punie.evals.replies import MAX_REPLY, Fault, Reply, Request, read
from punie.evals.suite import Expectation, Sample
from punie.formats import code_mode
from punie.formats.tools import TOOLS
from punie.results import scoring
from punie.util import jsonl
from tests.unit.evals.test_endpoint import Letters

CODE = "git_status()"
TEXT = code_mode.wrap(CODE)
ARGUMENTS = {"code": CODE}
AS_TEXT = {"id": "call_1", "type": "function",
           "function": {"name": "execute_code", "arguments": json.dumps(ARGUMENTS)}}  # fmt: skip
AS_OBJECT = {"function": {"name": "execute_code", "arguments": ARGUMENTS}}
CALL = {"name": "execute_code", "arguments": ARGUMENTS}
THOUGHT = "I look for changes."
THINKING = f"<think>\n{THOUGHT}\n</think>\n\n"


def completion(text: Any, ending: Any = "stop", tokens: Any = 40, **more: Any) -> dict[str, Any]:
    choice = {"index": 0, "text": text, "finish_reason": ending, "logprobs": None, **more}
    return {"object": "text_completion", "choices": [choice], "usage": {"completion_tokens": tokens}}


def chat(content: Any, ending: Any = "stop", tokens: Any = 40, **message: Any) -> dict[str, Any]:
    said = {"role": "assistant", "content": content, **message}
    choice = {"index": 0, "message": said, "finish_reason": ending, "logprobs": None}
    return {"object": "chat.completion", "choices": [choice], "usage": {"completion_tokens": tokens}}


def ls(arguments: Any) -> list[dict[str, Any]]:
    """The calls of a message: one, of ``ls``."""
    return [{"function": {"name": "ls", "arguments": arguments}}]


def listed(arguments: Any) -> tuple[dict[str, Any], ...]:
    return ({"name": "ls", "arguments": arguments},)


def with_ids(reply: dict[str, Any], text: str, *, by: str) -> dict[str, Any]:
    """The reply with the token ids of a text, as a server gives them."""
    ids = [*map(ord, text), 0]
    (choice,) = reply["choices"]
    if by == "entries":  # mlx_lm.server, llama.cpp
        choice["logprobs"] = {"content": [{"id": each, "token": "t", "logprob": -0.5} for each in ids]}
    else:  # vLLM
        choice["token_ids"] = ids
        choice["logprobs"] = {"tokens": ["t"] * len(ids), "token_logprobs": [-0.5] * len(ids)}
    return {**reply, "usage": {"completion_tokens": len(ids)}}


READ: dict[str, tuple[dict[str, Any], str, tuple[dict[str, Any], ...]]] = {
    # The text has the call, or is the response.
    "text": (completion(TEXT), TEXT, ()),
    "text, chat": (chat(TEXT), TEXT, ()),
    "parts of text": (chat([{"type": "text", "text": each} for each in (TEXT[:9], TEXT[9:])]), TEXT, ()),
    "no count": (completion("words", tokens=None), "words", ()),
    "no usage": ({"choices": [{"text": "words", "finish_reason": "stop"}]}, "words", ()),
    "nothing but the end token": (completion("", tokens=1), "", ()),
    "white space taken off": (chat("OK", tokens=8), "OK", ()),
    "nothing at all": (chat(None, tokens=0), "", ()),
    "white space to the limit": (completion("\n" * 16, "length", 16), "\n" * 16, ()),
    "older endings": (completion(TEXT, "eos_token"), TEXT, ()),
    "the end token in the text": (completion(f"{TEXT}\0\nmore"), TEXT, ()),
    # The call beside the text.
    "call, arguments as text": (chat(None, "tool_calls", tool_calls=[AS_TEXT]), "", (CALL,)),
    "call, arguments as an object": (chat("", "stop", tool_calls=[AS_OBJECT]), "", (CALL,)),
    "call without function": (chat("", tool_calls=[CALL]), "", (CALL,)),
    "two calls": (chat(None, "tool_calls", tool_calls=[AS_TEXT, AS_OBJECT]), "", (CALL, CALL)),
    "an older call": (chat(None, "function_call", function_call=AS_TEXT["function"]), "", (CALL,)),
    "no arguments": (chat(None, tool_calls=ls("")), "", listed({})),
    "arguments that are no JSON": (chat(None, tool_calls=ls('{"a": ')), "", listed('{"a": ')),
    "arguments that are no object": (chat(None, tool_calls=ls("[1]")), "", listed("[1]")),
    "NaN in arguments": (chat(None, tool_calls=ls('{"a": NaN}')), "", listed('{"a": NaN}')),
    "call beside a completion": (completion("", "tool_calls", tool_calls=[AS_TEXT]), "", (CALL,)),
    "message beside a completion": (
        completion(None, "tool_calls", message={"tool_calls": [AS_TEXT]}), "", (CALL,)),
    "prose and a call": (completion("I look.", "tool_calls", tool_calls=[AS_TEXT]), "I look.", (CALL,)),
    "no calls in an empty list": (chat(TEXT, tool_calls=[]), TEXT, ()),
    # The thought beside the text.
    "thought and text": (chat(TEXT, reasoning_content=THOUGHT), THINKING + TEXT, ()),
    "thought and call": (chat(None, reasoning=THOUGHT, tool_calls=[AS_TEXT]), THINKING, (CALL,)),
    "a thought to the limit": (chat("", "length", reasoning_content=THOUGHT), f"<think>\n{THOUGHT}", ()),
    # Token ids are the whole response, whatever the server made of its text.
    "ids": (with_ids(completion(""), TEXT, by="entries"), TEXT, ()),
    "ids, chat": (with_ids(chat(None, tool_calls=[AS_TEXT]), TEXT, by="entries"), TEXT, ()),
    "ids of vLLM": (with_ids(completion("without marks"), TEXT, by="list"), TEXT, ()),
    "only the end token's id": (with_ids(completion(""), "", by="entries"), "", ()),
}  # fmt: skip

MISSING: dict[str, tuple[Any, str]] = {
    "the call is dropped": (completion(""), "0 characters, but 40 tokens were generated"),
    "the call is dropped, chat": (chat(None), "0 characters, but 40 tokens"),
    "the call is dropped after prose": (chat("I look."), "7 characters, but 40 tokens"),
    "the call is dropped after a line": (chat("\n\n"), "2 characters, but 40 tokens"),
    "empty, not counted": (completion("", tokens=None), "an unknown number of tokens"),
    "all of it is a thought": (chat("", reasoning_content=f"{THOUGHT} {TEXT}"), "beside a thought of"),
    "a call without a name": (chat(None, tool_calls=[{"function": {"arguments": "{}"}}]), "no name"),
    "a call that is none": (chat(None, tool_calls=["ls()"]), "no name"),
    "calls that are no list": (chat(None, tool_calls={"ls": {}}), "not a list"),
    "arguments that are a number": (chat(None, tool_calls=ls(7)), "no object"),
    "no text": (completion(None), "holds no text"),
    "text that is a number": (completion(7), "holds no text"),
    "too long a text": (completion("x" * 512 * 65), "33,280 characters, but 64 tokens"),
    "tokens below zero": (completion("words", tokens=-7), "completion_tokens -7"),
    "tokens of 400 digits": (completion("words", tokens=10**400), "completion_tokens 1000"),
    "tokens in halves": (completion("words", tokens=2.5), "completion_tokens 2.5"),
    "a prompt below zero": ({**completion("words"), "usage": {"prompt_tokens": -1}}, "prompt_tokens -1"),
    **{f"log-probability of {len(str(value))} digits": (
        completion("", logprobs={"content": [{"id": 65, "logprob": value}] * 40}), "cannot be: ")
       for value in (5, 5.0, -(10**9), -(10**400))},
    "ids below zero": (completion("", token_ids=[-1] * 40), "40 tokens were"),
    "more ids than tokens": (completion("", tokens=2, token_ids=[65, 66, 67]), "3 token ids"),
    "ids and log-probabilities of two lengths": (
        completion("", tokens=2, token_ids=[65, 66], logprobs={"token_logprobs": [-1]}), "2 token ids"),
}  # fmt: skip


def of(reply: Any) -> Reply:
    reply = json.loads(json.dumps(reply))
    return read(reply, Request("a#0", "prompt", 6, 64), Letters(), stop=(), model=None, seconds=0.1)


@pytest.mark.parametrize("shape", READ)
def test_the_response_is_found_where_the_server_puts_it(shape: str) -> None:
    """Text and calls of every known shape of a reply."""
    reply, text, calls = READ[shape]
    found = of(reply)
    assert (found.text, found.calls) == (text, calls)


@pytest.mark.parametrize("shape", MISSING)
def test_what_cannot_be_the_response_is_missing(shape: str) -> None:
    """A reply without a part of the response, or with numbers that cannot be, has a reason and no score."""
    reply, words = MISSING[shape]
    with pytest.raises(Fault) as caught:
        of(reply)
    assert words in str(caught.value)
    assert len(str(caught.value)) < 500


def test_a_reply_is_no_longer_than_its_tokens(tmp_path: Any) -> None:
    """A reply's bound grows with the tokens asked for; the record of the longest one can be read again."""
    small, large = (Request("a#0", "prompt", 6, tokens).longest_reply for tokens in (16, 10**6))
    assert small < 100_000
    assert large == MAX_REPLY
    request = Request("a#0", "prompt", 6, 10**6)
    for text, fits in (("\1" * (MAX_REPLY // 14), True), ("\1" * (MAX_REPLY // 11), False)):
        reply = json.loads(
            json.dumps(chat(None, tool_calls=[{"function": {"name": "f", "arguments": {"a": text}}}]))
        )
        if not fits:
            with pytest.raises(Fault):
                read(reply, request, Letters(), stop=(), model=None, seconds=0.1)
            continue
        found = read(reply, request, Letters(), stop=(), model=None, seconds=0.1)
        line = {"output": found.text, "tool_calls": found.calls, "calls": found.calls, "blocks": ["f"]}
        (tmp_path / "samples.jsonl").write_text(json.dumps(line) + "\n")
        assert len(list(jsonl.read(tmp_path / "samples.jsonl"))) == 1


SENT: list[tuple[str, list[dict[str, Any]], bool, str]] = [
    ("", [CALL], False, "correct"),
    ("I look.", [CALL, CALL], False, "correct"),
    (TEXT, [CALL], False, "correct"),
    ("<tool_call>\n<function=execute_code>", [CALL], False, "malformed wrapper"),
    ("", [{"name": "execute_code", "arguments": '{"code": "git'}], True, "truncated"),
    ("", [{"name": "execute_code", "arguments": '{"code": "git'}], False, "malformed wrapper"),
    ("", [{"name": "execute_code", "arguments": {"code": 7}}], False, "malformed wrapper"),
    ("", [{"name": "execute_code", "arguments": {"script": CODE}}], False, "malformed wrapper"),
    ("", [{"name": "git_status", "arguments": {}}], False, "direct call"),
    ("", [{"name": "python", "arguments": {}}], False, "unknown tool"),
    ("", [{"name": "execute_code", "arguments": {"code": "git_diff()"}}], False, "wrong tool"),
]


@pytest.mark.parametrize(("text", "sent", "truncated", "failure"), SENT)
def test_a_call_beside_the_text_counts_as_one_in_it(
    text: str, sent: list[dict[str, Any]], truncated: bool, failure: str
) -> None:
    """Calls that a server sent are run and judged as those in the text, also when they are scored again."""
    from punie.evals.sandbox import Sandbox
    from punie.results.records import Sample as Record

    item = Sample("s", "git", "What changed?", (Expectation("git_status"),), tools=tuple(TOOLS.values()))
    with Sandbox() as sandbox:
        found = scoring.scored(code_mode.FORMAT, item, text, truncated=truncated, sandbox=sandbox, sent=sent)
        assert found["taxonomy"] == failure
        assert found["wrapper"]
        ending = {"finish_reason": "length" if truncated else "stop", "missing": None, "output": text}
        record = Record.model_validate(
            {**scoring.asked(code_mode.FORMAT, item, 0, "", 6), **ending, "tool_calls": sent, **found}
        )
        assert list(scoring.rescored(code_mode.FORMAT, [record], sandbox)) == [record]
    if failure == "correct":
        assert found["scores"]["keyword"]["value"] == 1.0
        assert found["calls"][0]["tool"] == "git_status"
    assert record.response.startswith(text)
    assert all(json.dumps(each) in record.response for each in sent)


@pytest.mark.parametrize(("template", "text"), [("object", "wrong arguments"), ("tagged", "correct")])
def test_native_calls_beside_the_text_are_judged_by_schema(template: str, text: str) -> None:
    """A number as text is that number only where the model writes values without a type."""
    from punie.evals.sandbox import Sandbox
    from tests.unit.formats.templates import TOOLS as OWN
    from tests.unit.formats.templates import by_template

    form = by_template(template).format
    item = Sample("s", "w", "?", (Expectation("get_weather", {"city": "Rome", "days": 3}),), tools=tuple(OWN))
    with Sandbox() as sandbox:
        for days, failure in ((3, "correct"), ("3", text), (4, "wrong arguments"), ("x", "wrong arguments")):
            sent = [{"name": "get_weather", "arguments": {"city": "Rome", "days": days}}]
            found = scoring.scored(form, item, "", truncated=False, sandbox=sandbox, sent=sent)
            assert found["taxonomy"] == failure
        assert found["calls"] == [{"tool": "get_weather", "arguments": {"city": "Rome", "days": "x"}}]
