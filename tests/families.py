"""The chat templates of real models that `make templates` fetches, and what punie does with each of them."""

from __future__ import annotations

import contextlib
import functools
import importlib
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mlx_lm.tokenizer_utils import TokenizerWrapper, _infer_tool_parser
from tokenizers import Tokenizer
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from punie import formats
from punie.formats import Call, Message
from punie.formats.chat import Chat, Conversation
from punie.formats.tools import read_tools
from punie.util.paths import PACKAGE, resource

FOLDER = PACKAGE.parent / ".templates"
COLUMNS = (
    "plain",
    "last turn",
    "all turns",
    "tools",
    "masked",
    "call",
    "types",
    "several",
    "locked",
    "mlx-lm",
)
"""What is tried: the loss of a row of one turn, of the last turn and of all turns of two; the tools in the
prompt; the loss of rows with tools and calls; one call read back, arguments of every type, several calls; the
opening whose probability is the format lock; the calls as mlx-lm's parser reads them."""
TEMPLATE_ARGS = {
    "Apriel-1.6-15b-Thinker-fixed": {"training_prompt": True},
    "tencent-Hy3": {"is_training": True},
}
"""``model.template_args`` of templates that end the last turn only if they are told to."""
ONE_CALL = "writes one call in a response"
REASONS = {
    "CohereForAI-c4ai-command-r-plus-tool_use": "wants `additionalProperties` in the schema of an object",
    "GigaChat3.1-10B-A1.8B": ONE_CALL,
    "Kimi-K2-Instruct": "`native` is refused: changes a list, which transformers forbids",
    "Kimi-K2-Thinking": "`native` is refused: changes a list, which transformers forbids",
    "LFM2.5-8B-A1B": "mlx-lm's parser ends strings at line breaks",
    "MiniMax-M3": "writes lists and objects as nested tags; mlx-lm takes the calls for JSON",
    "Mistral-Small-3.2-24B-Instruct-2506": "mlx-lm's parser takes the call's id for the name",
    "fireworks-ai-llama-3-firefunction-v2": "takes tools as text, named `functions`",
    "llama-cpp-deepseek-r1": "`native` is refused: writes a generator as JSON, which transformers cannot",
    "llama-cpp-rwkv-world": "ends a turn without a token",
    "meetkai-functionary-medium-v3.2": "a call begins with its name: no format lock",
    "meta-llama-Llama-3.1-8B-Instruct": ONE_CALL,
    "meta-llama-Llama-3.2-3B-Instruct": ONE_CALL,
    "meta-llama-Llama-3.3-70B-Instruct": ONE_CALL,
    "muse-glimmer": "a call begins as any response: no format lock; mlx-lm's parser takes text for numbers",
    "openai-gpt-oss-120b": ONE_CALL,
}
"""Why something does not hold, by template."""
VOCABULARIES = {
    "llama-bpe": (
        "meta-llama", "NousResearch", "fireworks", "meetkai", "deepseek-ai-DeepSeek-R1-Distill-Llama",
        "HuggingFaceTB-SmolLM3",
    ),
    "qwen2": (
        "Qwen-", "Qwen3-Coder", "MiMo-VL", "deepseek-ai-DeepSeek-R1-Distill-Qwen", "StepFun3.5",
    ),
    "qwen35": ("Qwen3.5",),
    "gemma-4": ("google-gemma",),
    "command-r": ("Cohere",),
    "deepseek-llm": ("deepseek-ai-DeepSeek-V", "llama-cpp-deepseek-r1"),
    "phi-3": ("microsoft-Phi-3.5",),
    "starcoder": ("ibm-granite-granite-3",),
}  # fmt: skip
"""Beginnings of templates' names, by the vocabulary beside the templates that is their model's or nearest;
the others have the tiny model's."""
TRAINED = {
    "Qwen-Qwen3-0.6B": "qwen3",
    "Qwen3-Coder": "qwen3_moe",
    "meta-llama-Llama-3.2-3B-Instruct": "llama",
    "mistralai-Ministral-3-14B-Reasoning-2512": "mistral3",
    "google-gemma-4-31B-it": "gemma4_text",
    "openai-gpt-oss-120b": "gpt_oss",
    "GLM-4.6": "glm4",
    "LFM2-8B-A1B": "lfm2",
}
"""Template to architecture of what tests/integration/test_architectures.py trains."""

_SPECIAL = re.compile(
    r"""<\|[\w :]{2,40}\|> | <｜[\w▁:｜]{2,40}｜> | \[/?[A-Z_]{3,30}\] | </assistant> | <sep> | \[e~\[
    | </?(?:think|tool_call|tool_response|role)> | <\|(?:turn|tool_call|tool_response)> | <turn\|>
    | <\|"\|> | <tool_call\|> | <(?:start|end)_of_turn> | <(?:beginning|end)_of_sentence>
    | <seed:\w+> | <SPECIAL_\d+>""",
    re.VERBOSE,
)
_STOPS = (
    "<|im_end|>", "<|eot_id|>", "<end_of_turn>", "<|end_of_text|>", "<|return|>", "<|call|>", "<|calls|>",
    "<｜end▁of▁sentence｜>", "<|END_OF_TURN_TOKEN|>", "<|assistant_end|>", "[e~[", "<turn|>", "<sep>",
    "<|tool_response>", "<end_of_sentence>", "<SPECIAL_12>", "<seed:eos>", "<|role_end|>", "<|end|>",
    "<|eot|>", "<|eom_id|>", "<|message_sep|>", "<｜hy_eos:opensource｜>", "<|end_of_msg|>", "</assistant>",
    "<|user|>", "<|observation|>",
)  # fmt: skip
"""The tokens at which these models stop, as their generation_config.json lists them."""

TOOLS = read_tools(
    [
        {
            "name": "get_weather",
            "description": "Get the weather of a city.",
            "parameters": {
                "type": "object",
                "properties": {
                    "city": {"type": "string", "description": "Its name."},
                    "days": {"type": "integer", "description": "How many."},
                    "exact": {"type": "boolean", "description": "To the degree."},
                    "tags": {"type": "array", "items": {"type": "string"}, "description": "Some words."},
                    "options": {
                        "type": "object",
                        "properties": {"unit": {"type": "string", "description": "Of degrees."}},
                        "description": "More.",
                    },
                },
                "required": ["city"],
            },
        },
        {
            "name": "add_up",
            "description": "Add two numbers.",
            "parameters": {
                "type": "object",
                "properties": {name: {"type": "number", "description": "A number."} for name in "ab"},
                "required": ["a", "b"],
            },
        },
    ],
    "a test",
)
ONE = [Call("get_weather", {"city": "Paris"})]
TYPES = [
    Call(
        "get_weather",
        {"city": 'a "b"\nc & é', "days": 3, "exact": True, "tags": ["a", "b c"], "options": {"unit": "K"}},
    )
]
SEVERAL = [*ONE, Call("add_up", {"a": 1.5, "b": 2}), Call("get_weather", {"city": "3"})]


def user(content: str) -> Message:
    """A user's turn."""
    return {"role": "user", "content": content}


def assistant(content: str, calls: Sequence[Call] = (), first_id: int = 0) -> Message:
    """An assistant's turn."""
    listed = [
        {
            "id": f"call{at:05d}",
            "type": "function",
            "function": {"name": each.tool, "arguments": dict(each.arguments)},
        }
        for at, each in enumerate(calls, first_id)
    ]
    return {"role": "assistant", "content": content, **({"tool_calls": listed} if listed else {})}


PLAIN = [user("Hello there."), assistant("Good morning.")]
TALK = [
    user("Weather?"),
    assistant("", ONE),
    {"role": "tool", "tool_call_id": "call00000", "name": "get_weather", "content": "sunny"},
    assistant("It is sunny."),
    user("And in Rome?"),
    assistant("", [Call("get_weather", {"city": "Rome"})], first_id=1),
]


def vocabulary(template: Path) -> Path | None:
    """The GGUF file with the vocabulary of a template's model; None if there is none."""
    found = (name for name, starts in VOCABULARIES.items() if template.stem.startswith(starts))
    path = FOLDER / f"ggml-vocab-{next(found, None)}.gguf"
    return path if path.exists() else None


@functools.lru_cache(maxsize=1)
def _files(path: Path) -> dict[str, Any]:
    from punie.model.gguf.file import read
    from punie.model.gguf.tokenizer import files

    found = files(read(path).metadata, 1 << 20)
    return {**found, "tokenizer.json": json.dumps(found["tokenizer.json"])}


def _real(path: Path) -> Any:
    found = _files(path)
    special = {name: text for name, text in found["tokenizer_config.json"].items() if name.endswith("_token")}
    return PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(found["tokenizer.json"]),
        **special,
    )


def tokenizer(template: Path, *, real: bool = False) -> TokenizerWrapper:
    """A tokenizer with a template, its special tokens and those at which its model stops: the tiny model's,
    or with ``real`` one of the template's family."""
    source, own = template.read_text("utf-8"), vocabulary(template) if real else None
    loaded: Any = _real(own) if own else AutoTokenizer.from_pretrained(resource("data/models/tiny"))
    begin = loaded.bos_token or "<s>"
    loaded.chat_template = source
    with contextlib.suppress(Exception):  # the template is a program, and may raise anything
        source += loaded.apply_chat_template([*PLAIN, *PLAIN], tokenize=False)
    stops = [each for each in _STOPS if each in source]
    if "eos_token" in source or not stops:
        stops.insert(0, "</s>")
    loaded.add_tokens(sorted({*_SPECIAL.findall(source), *stops, begin}), special_tokens=True)
    loaded.bos_token, loaded.eos_token = begin, stops[0]
    return TokenizerWrapper(loaded, eos_token_ids=loaded.convert_tokens_to_ids(stops))


@dataclass
class Trial:
    """What was found about one template."""

    name: str
    """The template's, without its extension."""
    format: str = ""
    """The format that ``format=native`` gives; ``prompted`` where it is refused."""
    opening: str = ""
    """What a response with a call begins with."""
    parser: str | None = None
    """mlx-lm's parser for it."""
    problems: dict[str, str] = field(default_factory=dict)
    """What is wrong, by column; a column that does not stand in it holds."""

    def holds(self, *columns: str) -> bool:
        """Whether nothing is wrong in any of some columns."""
        return not self.problems.keys() & set(columns)


def attempt(template: Path, *, real: bool = False) -> Trial:
    """Try everything on one template."""
    trial, loaded = Trial(template.stem), tokenizer(template, real=real)
    trial.parser, options = _infer_tool_parser(loaded), TEMPLATE_ARGS.get(trial.name, {})
    chat = Chat(loaded, formats.restore("prompted", {"system_turn": True}), options)

    def check(column: str, found: Callable[[], str | None]) -> None:
        try:
            problem = found()
        except Exception as error:  # the template is a program, and may raise anything
            problem = str(error) or type(error).__name__
        if problem:
            trial.problems[column] = " ".join(problem.split())

    check("plain", lambda: _masked(chat, Conversation(PLAIN), [1]))
    check("last turn", lambda: _masked(chat, Conversation([*PLAIN, *PLAIN]), [3]))
    check("all turns", lambda: _masked(chat, Conversation([*PLAIN, *PLAIN]), [1, 3]))
    try:
        chat = Chat(loaded, formats.build("native", loaded, options), options)
    except Exception:  # as above
        with contextlib.suppress(Exception):
            chat = Chat(loaded, formats.build("prompted", loaded, options), options)
    trial.format = chat.format.name
    trial.opening = next(iter(chat.format.spellings.values()), "")
    check("tools", lambda: _hidden(chat))
    check("masked", lambda: _masked(chat, Conversation(TALK, TOOLS), [5]))
    check("masked", lambda: _masked(chat, Conversation(TALK, TOOLS), [1, 3, 5]))
    check("call", lambda: _misread(chat, ONE))
    check("types", lambda: _misread(chat, TYPES))
    check("several", lambda: _misread(chat, SEVERAL))
    check(
        "locked", lambda: None if chat.format.opening(_written(chat, TYPES)) else _written(chat, TYPES)[:60]
    )
    if trial.format == "native" and trial.parser:
        readable = [
            c for c, name in ((ONE, "call"), (TYPES, "types"), (SEVERAL, "several")) if trial.holds(name)
        ]
        check(
            "mlx-lm",
            lambda: next(filter(None, (_differs(chat, trial.parser, each) for each in readable)), None),
        )
    return trial


def _masked(chat: Chat, talk: Conversation, turns: Sequence[int]) -> str | None:
    """What is wrong with the tokens that have loss."""
    examples = chat.examples(talk, turns)
    spans = [(each, span) for each in examples for span in each.spans]
    if len(spans) != len(turns):
        return f"{len(spans)} spans for {len(turns)} turns"
    for turn, (example, (start, end)) in zip(turns, spans, strict=True):
        said = chat.tokenizer.decode(example.tokens[start:end])
        prompt = chat.prompt_tokens(Conversation(talk.messages[:turn], talk.tools))
        if example.tokens[:start] != prompt:
            return "the prompt of training is not that of evaluation"
        if not chat.ends(said):
            return f"no token that stops generation at the end of {said!r}"
        names = [call["function"]["name"] for call in talk.messages[turn].get("tool_calls", ())]
        if any(text not in said for text in (talk.messages[turn]["content"], *names)):
            return f"the loss is on {said!r}"
    return None


def _hidden(chat: Chat) -> str | None:
    prompt = chat.prompt(Conversation([user("Weather?")], TOOLS))
    missing = [text for tool in TOOLS for text in (tool.name, tool.description) if text not in prompt]
    return f"not in the prompt: {missing}" if missing else None


def _written(chat: Chat, calls: Sequence[Call]) -> str:
    return chat.answer(Conversation([user("Weather?"), assistant("", calls)], TOOLS), 1)


def _misread(chat: Chat, calls: Sequence[Call]) -> str | None:
    written = _written(chat, calls)
    found = chat.format.parse(written, tools=TOOLS)
    read = list(found.calls) == list(calls) and not any(block.problem for block in found.blocks)
    return None if read else f"read as {found.blocks}: {written!r}"


def _differs(chat: Chat, parser: str | None, calls: Sequence[Call]) -> str | None:
    """What mlx-lm's parser reads, called as its server calls it, if it is not the calls."""
    module: Any = importlib.import_module(f"mlx_lm.tool_parsers.{parser}")
    written, found = _written(chat, calls), []
    for piece in written.split(module.tool_call_start)[1:]:
        body = piece.split(module.tool_call_end)[0] if module.tool_call_end else piece
        parsed = module.parse_tool_call(body, [tool.declaration for tool in TOOLS])
        found += parsed if isinstance(parsed, list) else [parsed]
    read = [Call(each["name"], each["arguments"]) for each in found]
    return None if read == list(calls) else f"mlx-lm reads {json.dumps(found)}: {written!r}"


def attempts(*, real: bool = False) -> list[Trial]:
    """Every template's trial, by name."""
    paths = sorted(
        FOLDER.glob("*.jinja"), key=lambda path: (str(vocabulary(path) if real else ""), path.name)
    )
    return sorted((attempt(path, real=real) for path in paths), key=lambda trial: trial.name)
