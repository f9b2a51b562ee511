"""A run's facts without a run: responses that were never generated, but parsed, run and scored for real."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html.parser import HTMLParser
from typing import Any

from punie.evals.sandbox import Sandbox
from punie.evals.suite import Expectation
from punie.evals.suite import Sample as Item
from punie.formats.code_mode import FORMAT
from punie.results.pages.report import Facts
from punie.results.records import Phase, Sample
from punie.results.scoring import asked, scored, summary
from punie.results.verdict import judge
from tests.unit.results import made

HOSTILE = (
    "</pre></dd></dl></details><script>window.hacked = 1</script></style></script><!-- "
    "<img src=x onerror='window.hacked = 1'> {{ 7 * 7 }} \x1b[31mred\x1b[0m \u202eesrever\u202c "
    "\x00\x07\x7f\x85\u2028\ud800 a lone \r and \u200bnothing"
)
"""What a model could write against the page that shows it."""
SHOWN = (
    "</pre></dd></dl></details><script>window.hacked = 1</script></style></script><!-- "
    "<img src=x onerror='window.hacked = 1'> {{ 7 * 7 }} ␛[31mred␛[0m ⟨U+202E⟩esrever⟨U+202C⟩ "
    "␀␇␡⟨U+0085⟩⟨U+2028⟩⟨U+D800⟩ a lone ␍ and ⟨U+200B⟩nothing"
)
"""The same as a person sees it."""
PHASE = Phase.model_validate(
    {
        "id": "x",
        "title": "A phase & its <title>",
        "hypothesis": "It holds.",
        "criteria": [{"metric": "overall", "op": ">=", "value": 0.5}],
        "baseline": {"source": "as published", "overall": 0.8, "categories": {"lsp": 0.9}},
    }
)
TRAINED = {
    "iters": 100, "updates": 100, "selected_iter": 80, "first_valid_loss": 4.0, "valid_loss": 0.1,
    "train_loss": 0.1, "supervised_tokens": 1000, "tokens": 2000, "padding_share": 0.1, "trainable": 10,
    "parameters": 100,
}  # fmt: skip


def call(code: str) -> str:
    """A response that runs code through a tool call."""
    wrapped = f"<parameter=code>\n{code}\n</parameter>"
    return f"<tool_call>\n<function=execute_code>\n{wrapped}\n</function>\n</tool_call>"


def records(answers: Iterable[tuple[str, str | None]]) -> list[Sample]:
    """Samples: for each response its category and its output, None if it is missing."""
    found = []
    with Sandbox() as sandbox:
        for index, (category, output) in enumerate(answers):
            expect = (Expectation("read_file", {"path": "src/app.py"}),)
            item = Item(f"{category}-{index}", category, f"Show me file {index} <b>please</b>.", expect)
            row = {
                **asked(FORMAT, item, 0, "0", 60),
                "missing": None,
                "output": output,
                "finish_reason": "stop",
            }
            if output is None:
                row["missing"] = "the server <b>timed out</b>"
            else:
                row |= scored(FORMAT, item, output, truncated=False, sandbox=sandbox)
            found.append(Sample.model_validate(row))
    return found


def facts(samples: Sequence[Sample], **more: Any) -> Facts:
    """A run with these responses; ``more`` goes into its results."""
    scores = summary(samples)
    fields: dict[str, Any] = {**dict(scores), "verdict": judge(scores, PHASE), **more}
    results = made.results(None, len(samples), **fields)
    return Facts(
        name="x", model="tiny", data="code_mode", suite="core27", phase=PHASE, results=results,
        samples=samples, metrics=[], info={}, settings={"eval.stop": ["</tool_call>"]},
    )  # fmt: skip


class Page(HTMLParser):
    """The elements of a page with their attributes, the text within each, and the elements left open."""

    VOID = frozenset({"meta", "input", "path", "use", "link"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.texts: dict[str, list[str]] = {}
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self.texts.setdefault(tag, []).append("")
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        for tag in set(self.open):
            self.texts[tag][-1] += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]

    def ids(self) -> list[str | None]:
        return [attributes["id"] for _, attributes in self.tags if "id" in attributes]

    @property
    def policy(self) -> dict[str, str]:
        """Its Content-Security-Policy, by directive."""
        [content] = [str(each["content"]) for each in self.all("meta") if "http-equiv" in each]
        return dict(part.strip().partition(" ")[::2] for part in content.split(";"))
