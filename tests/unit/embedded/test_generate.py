"""The generated data and the suites."""

import json
import re
from itertools import pairwise

import pydantic_monty
import pytest

from punie.data.load import load_rows
from punie.data.rows import calls_of
from punie.embedded.conversations import call, outcome, step
from punie.embedded.generate import generate, selection_suite, with_tools, write
from punie.embedded.phrasings import Task, Values, draw_task, draws, expand, form_of, lines, templates
from punie.evals.sandbox import Recorder
from punie.evals.suite import load_suite
from punie.formats.code_mode import system_prompt
from punie.formats.tools import CATEGORIES, TOOLS, wrong_arguments
from punie.util.errors import DataError
from punie.util.paths import resource

SLOTS = {
    "place": ".+",
    "count": r"\d+",
    "pattern": "`.+`",
    "content": "`[^`]+`",
    "command": r"(?:`[^`]+`|[a-z][\w-]*(?: [\w.-]+){0,2})",
    "import_stmt": r"`?(?:from \w+ )?import \w+`?",
    "concept": (CONCEPTS := f"(?:{'|'.join(each.partition(':')[0] for each in lines('concepts', 'train'))})"),
    "other": CONCEPTS,
    "tool": "(?:" + "|".join(TOOLS) + ")",
    "order": ".+",
}


@pytest.fixture(scope="module")
def rows():
    return list(generate(seed=0).values())


def wrapped_codes(row):
    for message in row["messages"]:
        if message["role"] == "assistant" and "<parameter=code>" in message["content"]:
            yield from re.findall(r"<parameter=code>\n(.*)\n</parameter>", message["content"], re.DOTALL)


def test_examples_are_a_function_of_the_seed():
    """A seed decides all examples; the validation examples do not depend on the number of the others."""

    def small(seed, train_rows=40):
        return generate(seed=seed, train_rows=train_rows, valid_rows=10)

    assert small(3) == small(3)
    assert small(3) != small(4)
    assert small(3)["valid"] == small(3, train_rows=20)["valid"]


def test_no_request_occurs_twice(rows):
    """Within and across the splits, of the published sizes, no first request occurs twice, case aside."""
    assert [len(split) for split in rows] == [1159, 123]
    prompts = [row["messages"][1]["content"].casefold() for split in rows for row in split]
    assert len(set(prompts)) == len(prompts)


def test_train_and_valid_share_no_template():
    """No template of a tool, and no frame, is in both splits."""
    for tool in TOOLS:
        train, valid = (
            {t.text for group in templates(tool, split) for t in group} for split in ("train", "valid")
        )
        assert train
        assert valid
        assert not train & valid
    assert not set(lines("frames order", "train")) & set(lines("frames order", "valid"))


def test_the_mix_is_met_as_exactly_as_whole_rows_allow():
    """Shares of 3 to 1 over 40 examples give 30 and 10."""
    train = generate(seed=0, train_rows=40, valid_rows=4, mix={"single": 3, "direct": 1})["train"]
    assert sum(1 for row in train if list(wrapped_codes(row))) == 30


@pytest.mark.parametrize(
    "mix", [{"singel": 1.0}, {"single": -1.0, "direct": 2.0}, {"single": 0.0}, {"single": float("nan")}, {}]
)
def test_an_unusable_mix_is_refused(mix):
    """An unknown kind, a negative share, or nothing at all is a DataError that names data.mix."""
    with pytest.raises(DataError, match=r"data\.mix"):
        generate(seed=0, mix=mix)


def test_an_exhausted_pool_is_an_error_and_not_an_endless_loop():
    """More rows of a kind than there are distinct ones end in a DataError that says so."""
    with pytest.raises(DataError, match="No new example of kind direct"):
        generate(seed=0, train_rows=1, valid_rows=20_000, mix={"direct": 1})


def test_rows_train_every_tool_under_the_system_prompt_of_the_suites(rows):
    """Turns alternate, the assistant's last; in the last turns alone each tool is called 20 times or more."""
    for row in rows[0] + rows[1]:
        roles = [message["role"] for message in row["messages"]]
        assert roles == ["system"] + ["user", "assistant"] * (len(roles) // 2)
        assert row["messages"][0]["content"] == system_prompt()
    last = [" ".join(wrapped_codes({"messages": row["messages"][-1:]})) for row in rows[0]]
    assert min(sum(f"{name}(" in code for code in last) for name in TOOLS) >= 20


def test_every_wrapped_answer_runs_in_the_sandbox_and_calls_what_its_code_says(rows):
    """The code of every row runs in the sandbox interpreter, and the tools it names are called."""
    codes = [code for row in rows[0][:300] + rows[1] for code in wrapped_codes(row)]
    with pydantic_monty.Monty() as pool:
        for code in codes:
            recorder = Recorder()
            lookup = {
                name: lambda *a, f=f, **k: pydantic_monty.ClassInstance(f(*a, **k), eager_attrs="all")
                for name, f in recorder.functions().items()
            }
            with pool.checkout() as session:
                session.feed_run(code, external_lookup=lookup, print_callback=lambda *_: None)
            assert {each.tool for each in recorder.calls} == {name for name in TOOLS if f"{name}(" in code}


@pytest.mark.parametrize("tool", TOOLS)
def test_a_task_says_the_values_that_it_calls_with(tool):
    """Every argument of a drawn task stands in its text, apart from those that its words imply."""
    values = Values(draws(0), novel=0.5)
    for _ in range(50):
        task = draw_task(tool, "train", values)
        assert TOOLS[tool].bind(**task.arguments)
        for value in task.arguments.values():
            assert value is True or (" ".join(value) if isinstance(value, list) else str(value)) in task.text


def test_a_call_is_written_as_python_reads_it():
    """Required arguments go by position, optional ones by name, strings in double quotes."""
    task = Task("run_command", "", {"command": "ls", "args": ["-l"]}, "order")
    assert call(task) == 'run_command("ls", args=["-l"])'


@pytest.mark.parametrize("tool", TOOLS)
def test_every_result_has_an_outcome(tool):
    """Each tool has something it may print and a sentence that tells it."""
    values = Values(draws(1))
    task = draw_task(tool, "train", values)
    printed, told = outcome(task, values.rng)
    assert printed
    assert told.strip() == told != ""
    assert step(task).startswith(f"result = {tool}(")


def test_alternatives_expand_to_every_combination():
    """Two alternatives and an optional word give four texts, in their order."""
    assert expand("(show|print) {file}( now|)") == [
        "show {file} now", "show {file}", "print {file} now", "print {file}",
    ]  # fmt: skip


def test_no_suite_prompt_is_a_training_or_validation_template():
    """No pattern, in any frame, reads as a prompt of a shipped suite."""
    prompts = {
        json.loads(line)["prompt"]
        for name in ("core27", "wide270", "abstain60")
        for line in resource(f"data/suites/{name}.jsonl").read_text(encoding="utf-8").splitlines()
    }
    found = []
    for split in ("train", "valid"):
        needless = (*lines("about", split), *lines("compare", split), *lines("tools", split))
        needless += (
            *lines("not now", split),
            *(each.partition(": ")[0] for each in lines("too little", split)),
        )
        for template in (*(each for tool in TOOLS for each in lines(tool, split)), *needless):
            pattern = template.partition(" => ")[0]
            form = "thing" if pattern.startswith("~ ") else form_of(pattern)
            text = re.sub(r"[.?]", r"\\\g<0>", pattern.removeprefix("~ "))
            body = re.sub(r"\{(\w+)\}", lambda slot: SLOTS.get(slot[1], r"`?[\w./]+`?"), text)
            frames = [re.sub(r"[.?]", r"\\\g<0>", frame) for frame in lines(f"frames {form}", split)]
            options = "|".join(frame.replace("{}", f"(?:{body})") for frame in dict.fromkeys(frames))
            expression = re.compile(options, re.IGNORECASE)
            found += [(prompt, template) for prompt in prompts if expression.fullmatch(prompt)]
    assert found == []


def test_suites_have_the_counts_of_their_categories():
    """core27 asks for each tool once and for four at once; wide270 has ten prompts for each item."""
    core, wide = (
        [json.loads(line) for line in resource(f"data/suites/{name}.jsonl").read_text("utf-8").splitlines()]
        for name in ("core27", "wide270")
    )
    assert [sum(item["category"] == name for item in core) for name in CATEGORIES] == [3, 3, 5, 3, 3, 9, 1]
    assert [item["expect"][0]["tool"] for item in core[:26]] == list(TOOLS)
    assert len(core[26]["expect"]) == 4
    for item in core:
        same = [other for other in wide if other["id"].startswith(f"{item['id']}-")]
        assert len(same) == 10
        assert all(other["expect"] == item["expect"] for other in same)
    for item in wide + core:
        for expected in item["expect"]:
            TOOLS[expected["tool"]].bind(**expected["arguments"])


@pytest.mark.parametrize(("style", "folder"), [("code_mode", "code_mode"), ("native", "native_tools")])
def test_the_shipped_data_is_what_the_generator_writes(style, folder, tmp_path):
    """The shipped data is the output of seed 0, byte for byte; earlier files of the folder are replaced."""
    write(tmp_path, seed=1, train_rows=30, valid_rows=5, style=style)
    write(tmp_path, seed=0, style=style)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["README.md", "train.jsonl", "valid.jsonl"]
    for path in tmp_path.iterdir():
        assert path.read_bytes() == resource(f"data/{folder}/{path.name}").read_bytes()


def test_native_examples_have_the_requests_of_code_mode(rows):
    """The requests are the same, line by line, and the calls are those of the code, all in one turn."""
    for split, native in zip(rows, generate(seed=0, style="native").values(), strict=True):
        for row, other in zip(split, native, strict=True):
            _, asked, answer, *_ = row["messages"]
            assert other["messages"][0] == asked
            calls = other["messages"][1].get("tool_calls", [])
            code = " ".join(wrapped_codes({"messages": [answer]}))
            assert bool(calls) == bool(code)
            if "if result.success" not in code:
                assert {each["function"]["name"] for each in calls} == {t for t in TOOLS if f"{t}(" in code}


def test_native_examples_offer_few_tools_and_the_right_ones():
    """3 to 6 schemas in any order: those that are called, and most times others of the same family."""
    rows = load_rows(resource("data/native_tools/train.jsonl"))
    first = families = single = 0
    for row in rows:
        offered = [tool.name for tool in row.tools]
        called = {call.tool: call.arguments for message in row.messages for call in calls_of(message)}
        assert 3 <= len(offered) == len(set(offered)) <= 6
        assert called.keys() <= set(offered)
        assert not [name for name, given in called.items() if wrong_arguments(TOOLS[name], given)]
        if len(called) == 1:
            single += 1
            first += offered[0] in called
            families += all(TOOLS[name].family == TOOLS[min(called)].family for name in offered)
    assert 0.25 < first / single < 0.4
    assert families / single > 0.8


def test_a_result_belongs_to_the_call_before_it():
    """Each tool turn has the id of the call that it follows, and no id occurs twice in an example."""
    for line in resource("data/native_tools/valid.jsonl").read_text("utf-8").splitlines():
        messages = json.loads(line)["messages"]
        ids = [call["id"] for message in messages for call in message.get("tool_calls", ())]
        assert len(set(ids)) == len(ids)
        for before, message in pairwise(messages):
            if message["role"] == "tool":
                assert message["tool_call_id"] == before["tool_calls"][0]["id"]


@pytest.mark.parametrize(
    ("plain", "own"),
    [("core27", "native27"), ("abstain60", "abstain60_native"), ("turns12", "turns12_native")],
)
def test_a_native_suite_is_another_with_tools(plain, own):
    """It has the prompts and calls of the other; each item offers 3 to 6 tools."""
    core, native = (
        [json.loads(line) for line in resource(f"data/suites/{name}.jsonl").read_text("utf-8").splitlines()]
        for name in (plain, own)
    )
    assert native == with_tools(core)
    for sample in load_suite(resource(f"data/suites/{own}.jsonl")):
        names = [tool.name for tool in sample.tools]
        assert 3 <= len(names) <= 6
        assert {each.tool for turn in sample.turns for each in turn.expect} < set(names)


def test_a_native_selection_suite_has_tools_of_its_own():
    """``punie data suite --style native`` asks what the other does, and each item has its tools."""
    items = selection_suite(per_tool=1, style="native")
    assert [item["prompt"] for item in items] == [item["prompt"] for item in selection_suite(per_tool=1)]
    assert all(3 <= len(item["tools"]) <= 6 for item in items)


def test_the_shipped_selection_suite_is_the_generated_one():
    """data/suites/select52.jsonl has every tool twice, and no prompt of the training data or of a suite."""
    path = resource("data/suites/select52.jsonl")
    items = selection_suite()
    assert [json.loads(line) for line in path.read_text("utf-8").splitlines()] == items
    assert sorted(sample.expect[0].tool for sample in load_suite(path)) == sorted([*TOOLS, *TOOLS])
    prompts = {str(item["prompt"]).casefold() for item in items}
    rows = load_rows(resource("data/code_mode/train.jsonl"))
    trained = {str(message["content"]).casefold() for row in rows for message in row.messages}
    suites = [load_suite(resource(f"data/suites/{name}.jsonl")) for name in ("core27", "wide270")]
    assert not prompts & (trained | {sample.prompt.casefold() for suite in suites for sample in suite})
