"""Conversations as text and tokens: what training sees is what evaluation asks."""

from __future__ import annotations

import pytest

from punie.formats import Call, code_mode, native
from punie.formats.chat import Chat, Conversation
from punie.model import load
from punie.util.paths import resource

from .templates import THINKING, TOOLS, by_template, tokenizer, turn

TALK = [
    {"role": "user", "content": "Hi"},
    {"role": "assistant", "content": "One."},
    {"role": "user", "content": "And?"},
    {"role": "assistant", "content": "Two."},
]


def chat(template: str) -> Chat:
    return Chat(tokenizer(template), code_mode.FORMAT)


@pytest.mark.parametrize("name", THINKING)
@pytest.mark.parametrize("turns", [[3], [1, 3]])
def test_the_prompt_of_training_is_that_of_evaluation(name: str, turns: list[int]) -> None:
    """Before every span stand exactly the tokens that evaluation would ask with, and it ends generation."""
    found = chat(THINKING[name])
    seen = 0
    for example in found.examples(Conversation(TALK), turns):
        for (start, end), (begin, stop) in zip(example.spans, example.ranges, strict=True):
            turn = turns[seen]
            assert example.tokens[:start] == found.prompt_tokens(Conversation(TALK[:turn]))
            response = example.text[begin:stop]
            assert TALK[turn]["content"] in response
            assert found.ends(response)
            assert found.tokenizer.decode(example.tokens[start:end]) == response
            seen += 1
    assert seen == len(turns)


@pytest.mark.parametrize(
    ("name", "response"),
    [
        ("earlier thoughts are stripped", "<think>\n\n</think>\n\nTwo.<|im_end|>\n"),
        ("the prompt opens a thought", "\n</think>\n\nTwo.<|im_end|>\n"),
        ("the prompt closes a thought", "Two.<|im_end|>\n"),
        ("the end comes with the next turn", "Two.<|im_end|>"),
        ("a trimmed response", "Two.<|im_end|>\n"),
    ],
)
def test_the_response_is_what_the_model_has_to_write(name: str, response: str) -> None:
    """A thought that the prompt opened is closed, one that it closed is not written again."""
    assert chat(THINKING[name]).turn(Conversation(TALK), 3)[1] == response


def test_white_space_that_the_template_trims_costs_nothing() -> None:
    """A response with line breaks around it trains under a template that trims."""
    talk = [*TALK[:3], {"role": "assistant", "content": "\n\nTwo.\n"}]
    (example,) = chat(THINKING["a trimmed response"]).examples(Conversation(talk), [3])
    assert example.text[slice(*example.ranges[0])] == "Two.<|im_end|>\n"


def test_a_thought_that_is_in_the_data_is_learned() -> None:
    """A thought of the example is part of the response, where the template renders it."""
    talk = [TALK[0], {**TALK[1], "reasoning_content": "Easy."}]
    for name in ("earlier thoughts are stripped", "the prompt opens a thought"):
        assert "Easy.\n</think>\n\nOne." in chat(THINKING[name]).turn(Conversation(talk), 1)[1]


def test_options_reach_the_template() -> None:
    """The model's options and the example's reach the template; the example's win."""
    loaded = tokenizer("{{- messages[0].content + (mood or '') }}{{- 'A' if add_generation_prompt }}")
    found = Chat(loaded, code_mode.FORMAT, {"mood": "calm"})
    assert found.prompt(Conversation(TALK[:1])) == "HicalmA"
    assert found.prompt(Conversation(TALK[:1], options={"mood": "glad"})) == "HigladA"


@pytest.mark.parametrize("as_text", [False, True])
def test_the_chat_api_gets_turns_tools_and_options(as_text: bool) -> None:
    """A server is sent the turns with arguments as JSON text, the tools, and the template's options, but not
    the template with the date in it, which the server does not take."""
    form = by_template("object").format
    if as_text:  # a template that wants arguments as text gets them so
        form = native.restore({**form.record, "arguments_as_text": True})
    asked = turn(Call("get_weather", {"city": "Rome"}))
    talk = Conversation([TALK[0], asked, {"role": "tool", "content": "21"}], TOOLS)
    found = Chat(tokenizer(""), form, {"enable_thinking": False, "chat_template": "dated"}).request(talk)
    assert found["messages"][1]["tool_calls"][0]["function"]["arguments"] == '{"city": "Rome"}'
    assert [found["messages"][0], found["messages"][2]] == [talk.messages[0], talk.messages[2]]
    assert found["tools"] == [each.declaration for each in TOOLS]
    assert found["chat_template_kwargs"] == {"enable_thinking": False}
    assert Chat(tokenizer(""), form).request(Conversation(TALK[:1])) == {"messages": TALK[:1]}


def test_a_text_is_learned_as_a_whole() -> None:
    """An example that is no conversation has loss on all of its tokens and an end."""
    found = Chat(tokenizer(""), code_mode.FORMAT)
    example = found.text("Hello there.")
    assert example.spans == [(1, len(example.tokens))]
    assert example.tokens[-1] == found.tokenizer.eos_token_id


def test_a_template_that_hides_the_response_is_refused() -> None:
    """Where the response cannot be found after the prompt, the example is refused in words."""
    loaded = tokenizer("{{- messages | length }}{{- 'A' if add_generation_prompt }}")
    with pytest.raises(ValueError, match="renders the prompt differently"):
        Chat(loaded, code_mode.FORMAT).turn(Conversation(TALK), 3)


def test_merges_across_the_prompts_end_are_those_of_evaluation() -> None:
    """Where a line break that ends the prompt merges with the response's first, training has evaluation's
    tokens before every turn: in the history the two are one token."""
    template = """{%- for m in messages %}{{- '<|im_start|>' + m.role + '\\n' }}
{%- if m.role == 'assistant' %}{{- '<think>\\n\\n</think>\\n' }}{%- endif %}
{{- m.content + '<|im_end|>\\n' }}{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n<think>\\n' }}{%- endif %}"""
    loaded = load.tokenizer(resource("data/models/tiny"))
    loaded.chat_template = template
    loaded.add_tokens(["\n\n"])
    found = Chat(loaded, code_mode.FORMAT)
    examples = found.examples(Conversation(TALK), [1, 3])
    assert [len(each.spans) for each in examples] == [1, 1]
    for at, example in zip((1, 3), examples, strict=True):
        prompt = found.prompt_tokens(Conversation(TALK[:at]))
        assert example.tokens[: example.spans[0][0]] == prompt
    assert loaded.convert_tokens_to_ids("\n\n") in prompt
