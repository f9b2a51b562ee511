"""The one way from conversations to text and tokens, for training and for evaluation.

A chat template is a program: it may strip thoughts, open one, trim a response or put a system turn in front.
So nothing is assumed about it. The prompt of each assistant turn is what the template renders for evaluation,
and the response is what it renders after that; text becomes tokens once, and spans follow by offsets.

Shape letters: T = tokens of one rendering.
"""

from __future__ import annotations

import functools
import re
from bisect import bisect_left
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from punie.formats import Format, Message
from punie.formats.messages import arguments_as_text
from punie.formats.spelling import common_prefix
from punie.formats.tools import Tool

Span = tuple[int, int]
"""Half-open range, of characters or of tokens."""

_CONTENT, _THOUGHT = "zqcontentqz", "zqthoughtqz"
_PARTIAL_TAG = re.compile(r"[<\[][^<>\[\]\s]*$")
_THOUGHT_OPENS = (
    r"(?:<[\w:]*think[\w:]*>|<\|START_THINKING\|>|\[THINK\]|<\|channel>thought|Here are my reasoning steps:)"
)
_OPENS, _OPENS_AT_END = re.compile(rf"\s*{_THOUGHT_OPENS}"), re.compile(rf"{_THOUGHT_OPENS}\s*$")
_CLOSES = re.compile(r"\s*(?:</[\w:]*think[\w:]*>|<\|END_THINKING\|>|\[/THINK\]|<channel\|>)")


@dataclass(frozen=True)
class Conversation:
    """What is rendered: turns, and what they may call."""

    messages: Sequence[Message]
    """The turns, in the form of :func:`punie.data.load.load_rows`."""
    tools: Collection[Tool] = ()
    """The tools that the template or the format shows the model."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """More options for the chat template; they win over the model's."""


@dataclass(frozen=True)
class Example:
    """One rendering that is trained on."""

    tokens: list[int]
    """Token ids, (T,)."""
    spans: list[Span]
    """Ranges of the tokens with loss."""
    text: str
    """What was tokenized."""
    ranges: list[Span]
    """The same ranges, of the text."""


@dataclass(frozen=True)
class Chat:
    """A tokenizer with its chat template, a format and the options that conversations are rendered with."""

    tokenizer: Any
    """mlx-lm's wrapper of a Hugging Face tokenizer, or that tokenizer."""
    format: Format
    """How calls are written."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Options of the chat template (``model.template_args``)."""

    @functools.cached_property
    def _stop(self) -> re.Pattern[str]:
        """Any text at whose token generation stops."""
        ids = getattr(self.tokenizer, "eos_token_ids", None) or [self.tokenizer.eos_token_id]
        texts = [self.tokenizer.decode([each]) for each in sorted(ids) if each is not None]
        return re.compile("|".join(map(re.escape, filter(None, texts))) or r"(?!)")

    def prompt(self, talk: Conversation) -> str:
        """The text of a conversation with the opening of the assistant's next turn."""
        return self._render(talk, talk.messages, generate=True)

    def request(self, talk: Conversation) -> dict[str, Any]:
        """A conversation as OpenAI's chat API takes it: messages, tools, and the options of the template."""
        turns, options = self.format.template_input(talk.messages, talk.tools)
        options = {**self.options, **options, **talk.options}
        tools, _ = options.pop("tools", None), options.pop("chat_template", None)  # the server has its own
        return {
            "messages": [arguments_as_text(turn) for turn in turns],
            **({"tools": tools} if tools else {}),
            **({"chat_template_kwargs": options} if options else {}),
        }

    @functools.cached_property
    def template(self) -> str:
        """The source of the chat template; of several, all of them."""
        source = self.options.get("chat_template") or getattr(self.tokenizer, "chat_template", None) or ""
        return source if isinstance(source, str) else "\n".join(map(str, source.values()))

    @functools.cached_property
    def controls(self) -> tuple[str, ...]:
        """The tokenizer's special tokens."""
        return tuple(getattr(self.tokenizer, "all_special_tokens", ()))

    @functools.cached_property
    def _special(self) -> frozenset[int]:
        return frozenset(getattr(self.tokenizer, "all_special_ids", ()))

    def ends(self, response: str) -> bool:
        """Whether a response ends with a token that stops generation; white space may follow it."""
        return self.unended(response) != response

    def unended(self, response: str) -> str:
        """A response as a model generates it, without the token that ends it."""
        ends = next(iter(reversed(list(self._stop.finditer(response)))), None)
        return response[: ends.start()] if ends and not response[ends.end() :].strip() else response

    def answer(self, talk: Conversation, turn: int) -> str:
        """The response of an assistant turn as a model would have generated it."""
        return self.unended(self.turn(talk, turn)[1])

    def text(self, text: str) -> Example:
        """An example that is not a conversation: its tokens and one that stops generation, all with loss."""
        tokens = [*self._encode(text)[0], self.tokenizer.eos_token_id]
        ended = text + self.tokenizer.decode(tokens[-1:])
        return Example(tokens, [(1, len(tokens))], ended, [(0, len(ended))])

    def prompt_tokens(self, talk: Conversation) -> list[int]:
        """The tokens of ``prompt``, (T,)."""
        return self._encode(self.prompt(talk))[0]

    def examples(self, talk: Conversation, turns: Collection[int]) -> list[Example]:
        """The renderings in which every one of some assistant turns has its loss.

        One rendering holds all turns, unless the template writes a turn or its prompt differently once others
        follow, or the tokenizer merges the end of a prompt with the response: such turns are rendered by
        themselves, as evaluation would render them.

        Args:
            talk: The conversation.
            turns: Positions of the assistant turns with loss; at least one.

        Raises:
            ValueError: The template does not render a response after the prompt, or the tokenizer merges
                the two.
        """
        found: list[tuple[str, list[Span]]] = []
        for turn in sorted(turns, reverse=True):
            prompt, response = self.turn(talk, turn)
            if found and found[-1][0].startswith(prompt + response):
                found[-1][1].insert(0, (len(prompt), len(prompt) + len(response)))
            else:
                found.append((prompt + response, [(len(prompt), len(prompt) + len(response))]))
        return [example for text, spans in reversed(found) for example in self._tokenized(text, spans)]

    def turn(self, talk: Conversation, turn: int) -> tuple[str, str]:
        """The prompt of an assistant turn as evaluation has it, and the response as the template writes it.

        Raises:
            ValueError: The template does not render the response after that prompt.
        """
        prompt = self._render(talk, talk.messages[:turn], generate=True)
        return prompt, self._ended(talk, turn, prompt, self._response(talk, turn, prompt))

    def _response(self, talk: Conversation, turn: int, prompt: str) -> str:
        through = self._render(talk, talk.messages[: turn + 1])
        if through.startswith(prompt):
            response, opens = through[len(prompt) :], _OPENS_AT_END.search(prompt)
            open_still = opens and not _CLOSES.search(response)
            return self._after_thought(talk, turn, opens[0], response) if opens and open_still else response
        plain = self._render(talk, [*talk.messages[:turn], {"role": "assistant", "content": _CONTENT}])
        header = _PARTIAL_TAG.sub("", common_prefix(prompt, plain))
        header = _OPENS_AT_END.sub("", header)
        opened, response = prompt[len(header) :], through[len(header) :]
        if through.startswith(header) and _OPENS.match(opened):
            return self._after_thought(talk, turn, opened, response)
        # The turn begins otherwise than the prompt for it: what follows its beginning is the response.
        begins = plain[: max(plain.rfind(_CONTENT), 0)]
        if begins and through.startswith(begins):
            return through[len(begins) :]
        raise ValueError("the chat template renders the prompt differently once the response follows it")

    def _ended(self, talk: Conversation, turn: int, prompt: str, response: str) -> str:
        """A response through the token at which generation stops, with the white space that follows it."""
        stop = self._stop.search(response)
        if stop:
            return response if not response[stop.end() :].strip() else response[: stop.end()]
        # Some templates end a turn only when the next one begins.
        later = self._render(talk, [*talk.messages[: turn + 1], {"role": "user", "content": _CONTENT}])
        at = later.find(response.strip(), len(_PARTIAL_TAG.sub("", common_prefix(prompt, later))))
        following = later[at + len(response.strip()) :] if at >= 0 else ""
        ends = self._stop.match(following.lstrip())
        return response.rstrip() + following[: following.find(ends[0])] + ends[0] if ends else response

    def _after_thought(self, talk: Conversation, turn: int, opened: str, response: str) -> str:
        """A response that lacks the thought which the prompt has opened, and may have closed."""
        closes = _CLOSES.match(response)
        if _CLOSES.search(opened):
            return response[closes.end() :] if closes else response
        if closes:
            return response
        if again := _OPENS.match(response):
            return response[again.end() :]
        probe = {
            "role": "assistant",
            "content": _CONTENT,
            "reasoning_content": _THOUGHT,
            "thinking": _THOUGHT,
        }
        text = self._render(talk, [*talk.messages[:turn], probe])
        thought, content = text.find(_THOUGHT), text.rfind(_CONTENT)
        if 0 <= thought < content:
            return text[thought + len(_THOUGHT) : content] + response
        if "<think>" in opened:  # DeepSeek R1's template drops every thought
            return "\n</think>\n\n" + response
        raise ValueError(f"the prompt opens a thought ({opened.strip()!r}) that the template never closes")

    def _render(self, talk: Conversation, messages: Sequence[Message], *, generate: bool = False) -> str:
        turns, options = self.format.template_input(messages, talk.tools)
        options = {**self.options, **options, **talk.options}
        render = functools.partial(
            self.tokenizer.apply_chat_template,
            turns,
            add_generation_prompt=generate,
            tokenize=False,
            **options,
        )
        try:
            return render()
        except TypeError:  # a template that goes through the tools without asking whether there are any
            if "tools" in options:
                raise
            return render(tools=[])

    def _tokenized(self, text: str, spans: list[Span]) -> list[Example]:
        """The tokens of a rendering; every prompt has the tokens that evaluation gives it.

        Where the tokenizer would merge the end of a prompt with the response, the two are tokenized apart, in
        an example for each turn: in the prompts of later turns evaluation has them merged.
        """
        tokens, encoding = self._encode(text)
        edges: list[Span] = []
        for start, end in spans:
            kept, at = self._unchanged(tokens, encoding, start)
            prompt = self._encode(text[at:start])[0]
            if tokens[kept : kept + len(prompt)] != prompt or (end < len(text) and encoding is None):
                return [self._apart(text[:end], start) for start, end in spans]
            whole = end == len(text)
            last = len(tokens) if whole else bisect_left(encoding.offsets, end, key=lambda each: each[0])
            edges.append((kept + len(prompt), last))
        return [Example(tokens, edges, text, spans)]

    def _unchanged(self, tokens: Sequence[int], encoding: Any, start: int) -> tuple[int, int]:
        """How many tokens a text has before its last special token before ``start``, and where that begins.

        A tokenizer splits a text at its special tokens first, so what comes after one changes nothing before.
        """
        if encoding is None:
            return 0, 0
        offsets = encoding.offsets
        last = bisect_left(offsets, start, key=lambda each: each[0]) - 1
        while last > 0 and not (tokens[last] in self._special and offsets[last][1] <= start):
            last -= 1
        return (last, offsets[last][0]) if last > 0 else (0, 0)

    def _apart(self, text: str, start: int) -> Example:
        """The tokens of a prompt and of the response after it, each by itself, as they are in evaluation."""
        prompt, response = self._encode(text[:start])[0], self._encode(text[start:])[0]
        tokens = prompt + response
        if self.tokenizer.decode(tokens) != self.tokenizer.decode(self._encode(text)[0]):
            raise ValueError("the tokenizer merges the end of the prompt with the response")
        return Example(tokens, [(len(prompt), len(tokens))], text, [(start, len(text))])

    def _encode(self, text: str) -> tuple[list[int], Any]:
        """Token ids, and the encoding that knows their ranges in the text; None if the tokenizer has none."""
        backend = getattr(self.tokenizer, "backend_tokenizer", None)
        if backend is None:
            return list(self.tokenizer.encode(text, add_special_tokens=False)), None
        encoding = backend.encode(text, add_special_tokens=False)
        return encoding.ids, encoding
