"""The prompted format of the embedded model."""

from __future__ import annotations

from punie import formats
from punie.formats import Call
from punie.formats.chat import Chat, Conversation
from punie.formats.tools import TOOLS
from punie.model import load
from punie.util.paths import resource


def test_a_tokenizer_with_function_marks_gets_them() -> None:
    """The embedded model, which cannot write JSON, writes calls with ``<function=``, and reads them back."""
    tokenizer = load.tokenizer(resource("data/models/tiny"))
    built = formats.build("native", tokenizer)
    form = formats.restore(built.name, built.record)
    calls = [Call("run_command", {"command": "make", "args": ["docs"]}), Call("git_status", {})]
    listed = [{"function": {"name": call.tool, "arguments": call.arguments}} for call in calls]
    turn = {"role": "assistant", "content": "", "tool_calls": listed}
    talk = Conversation([{"role": "user", "content": "go"}, turn], list(TOOLS.values()))
    chat = Chat(tokenizer, form)
    text = chat.answer(talk, 1)
    assert text.startswith("<tool_call>\n<function=run_command>\n<parameter=command>\nmake\n</parameter>\n")
    assert "<function=FUNCTION>" in chat.prompt(talk)
    assert "{" not in text
    assert list(form.parse(text, tools=TOOLS.values()).calls) == calls
