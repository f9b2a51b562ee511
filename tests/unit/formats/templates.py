"""Chat templates of our own, one for each way in which model families write tool calls."""

from __future__ import annotations

import functools
import json
from typing import Any

from punie import formats
from punie.formats import Call
from punie.formats.chat import Chat
from punie.formats.tools import read_tools
from punie.model import load
from punie.util.paths import resource

_TURNS = """{%- if tools %}{{- '<|im_start|>system\\n' + (tools | tojson) + '<|im_end|>\\n' }}{%- endif %}
{%- for m in messages %}{{- '<|im_start|>' + m.role + '\\n' + m.content }}
{%- for c in m.tool_calls or [] %}{%- set f = c.function %}CALL{%- endfor %}
{{- 'AFTER' if m.tool_calls }}{{- '<|im_end|>\\n' }}{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}"""


def turns(call: str, after: str = "") -> str:
    """A template in Qwen's manner whose calls are written by a piece of Jinja."""
    return _TURNS.replace("CALL", call).replace("'AFTER'", f"'{after}'")


PLAIN = turns("{{- '' }}").replace("{%- if tools %}", "{%- if false %}")
"""A template that shows no tools and writes no calls."""
_TAGGED = """{{- '<tool_call>\\n<function=' + f.name + '>\\n' }}{%- for k, v in f.arguments | items %}
{{- '<parameter=' + k + '>\\n' + (v if v is string else v | tojson) + '\\n</parameter>\\n' }}{%- endfor %}
{{- '</function>\\n</tool_call>' }}"""
_ARG_KEYS = """{{- '<tool_call>' + f.name }}{%- for k, v in f.arguments | items %}
{{- '<arg_key>' + k + '</arg_key><arg_value>' + (v if v is string else v | tojson) + '</arg_value>' }}
{%- endfor %}
{{- '</tool_call>' }}"""
_PYTHON = """{{- '<|tool_call_start|>[' if loop.first else ', ' }}{{- f.name + '(' }}
{%- for k, v in f.arguments | items %}
{{- k + '=' + v | tojson }}{{- '' if loop.last else ', ' }}{%- endfor %}{{- ')' }}
{{- ']<|tool_call_end|>' if loop.last }}"""
_QUOTED = """{%- macro quoted(v) %}{%- if v is string %}{{- '<|"|>' + v + '<|"|>' }}
{%- elif v is mapping %}{{- '{' }}
{%- for k, x in v | items %}{{- k + ':' + quoted(x) }}{{- '' if loop.last else ',' }}{%- endfor %}{{- '}' }}
{%- elif v is sequence %}{{- '[' }}{%- for x in v %}{{- quoted(x) }}
{{- '' if loop.last else ',' }}{%- endfor %}{{- ']' }}
{%- else %}{{- v | tojson }}{%- endif %}{%- endmacro %}"""
_JSON = "{{- 'A{\"name\": ' + f.name | tojson + ', \"KEY\": ' + f.arguments | tojson + '}B' }}"

TEMPLATES = {
    "object": turns(
        _JSON.replace("A", "<tool_call>\\n").replace("B", "\\n</tool_call>").replace("KEY", "arguments")
    ),
    "object in a section": turns(
        "{{- '<tool_calls>' if loop.first }}"
        + _JSON.replace("A", "\\n").replace("B", "").replace("KEY", "arguments")
        + "{{- '\\n</tool_calls>' if loop.last }}"
    ),
    "object without a mark": turns(_JSON.replace("A", "").replace("B", "").replace("KEY", "parameters")),
    "list": turns(
        "{{- '[TOOL_CALLS][' if loop.first else ', ' }}"
        "{{- {'name': f.name, 'arguments': f.arguments, 'id': c.id} | tojson }}{{- ']' if loop.last }}"
    ),
    "json": turns("{{- '[TOOL_CALLS]' + f.name + '[CALL_ID]' + c.id + '[ARGS]' + f.arguments | tojson }}"),
    "json in a section": turns(
        "{{- '<calls>' if loop.first }}"
        "{{- '<call>functions.' + f.name + ':' + loop.index0 | string + '<args>' }}"
        "{{- f.arguments | tojson + '</call>' }}{{- '</calls>' if loop.last }}"
    ),
    "tagged": turns(_TAGGED),
    "tagged, keys": turns(_ARG_KEYS),
    "python": turns(_PYTHON),
    "quoted": _QUOTED + turns("{{- '<|tool_call>call:' + f.name + quoted(f.arguments) + '<tool_call|>' }}"),
}
"""By how a call holds its arguments."""

THINKING = {
    "earlier thoughts are stripped": """{%- for m in messages %}{{- '<|im_start|>' + m.role + '\\n' }}
{%- if m.role == 'assistant' and loop.last %}
{{- '<think>\\n' + (m.reasoning_content or '') + '\\n</think>\\n\\n' }}
{%- endif %}{{- m.content + '<|im_end|>\\n' }}{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}""",
    "the prompt opens a thought": """{%- for m in messages %}{{- '<|im_start|>' + m.role + '\\n' }}
{%- if m.reasoning_content %}{{- '<think>\\n' + m.reasoning_content + '\\n</think>\\n\\n' }}{%- endif %}
{{- m.content + '<|im_end|>\\n' }}{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n<think>\\n' }}{%- endif %}""",
    "the prompt closes a thought": """{%- for m in messages %}
{{- '<|im_start|>' + m.role + '\\n' + m.content + '<|im_end|>\\n' }}{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n<think>\\n\\n</think>\\n\\n' }}{%- endif %}""",
    "the end comes with the next turn": """{%- for m in messages %}{{- '<|im_end|>\\n' if not loop.first }}
{{- '<|im_start|>' + m.role + '\\n' + m.content }}{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_end|>\\n<|im_start|>assistant\\n' }}{%- endif %}""",
    "a trimmed response": """{%- for m in messages %}
{{- '<|im_start|>' + m.role + '\\n' + m.content | trim + '<|im_end|>\\n' }}{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}""",
    "a default system turn": """{%- if messages[0].role != 'system' %}
{{- '<|im_start|>system\\nHelp.<|im_end|>\\n' }}
{%- endif %}{%- for m in messages %}
{{- '<|im_start|>' + m.role + '\\n' + m.content + '<|im_end|>\\n' }}{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}""",
}
"""Templates that do more than write the turns down."""


@functools.cache
def tokenizer(template: str) -> Any:
    """The tokenizer of the tiny model with another template."""
    loaded = load.tokenizer(resource("data/models/tiny"))
    loaded.chat_template = template
    return loaded


@functools.cache
def by_template(name: str, form: str = "native") -> Chat:
    """The chat of one of the templates above, its format as a run's record restores it."""
    loaded = tokenizer(TEMPLATES.get(name, PLAIN))
    found = formats.build(form, loaded)
    return Chat(loaded, formats.restore(found.name, json.loads(json.dumps(found.record))))


TOOLS = read_tools(
    [
        {
            "name": "get_weather",
            "description": "Get the weather of a city.",
            "parameters": {
                "type": "object",
                "properties": {
                    "city": {"type": "string"},
                    "days": {"type": "integer"},
                    "tags": {"type": "array", "items": {"type": "string"}},
                    "options": {"type": "object"},
                    "exact": {"type": "boolean"},
                },
                "required": ["city"],
            },
        },
        {"name": "math.add", "parameters": {"type": "dict", "properties": {"a": {"type": "float"}}}},
    ],
    "a test",
)
"""Two tools of nobody's."""


def turn(*calls: Call, content: str = "") -> dict[str, Any]:
    """An assistant turn with calls."""
    listed = [
        {
            "id": f"call{at:05d}",
            "type": "function",
            "function": {"name": c.tool, "arguments": dict(c.arguments)},
        }
        for at, c in enumerate(calls)
    ]
    return {"role": "assistant", "content": content, "tool_calls": listed}
