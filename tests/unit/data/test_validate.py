import json

import numpy as np
import pytest

from punie.data.load import Row
from punie.data.overlap import SIMILAR, Request, find_overlaps
from punie.data.rows import check_row
from punie.data.similar import PIECE, VALUES, nearest, normal, signature
from punie.data.validate import check
from punie.evals.suite import load_suite
from punie.formats.code_mode import wrap
from punie.util.errors import DataError
from punie.util.paths import resource


def turns(answer, request="Show me src/app.py", system="You help."):
    roles = {"system": system, "user": request, "assistant": answer}
    return [{"role": role, "content": text} for role, text in roles.items()]


def write(folder, name="train", *rows):
    path = folder / f"{name}.jsonl"
    path.write_text(
        "".join((row if isinstance(row, str) else json.dumps({"messages": row})) + "\n" for row in rows)
    )
    return path


def spell(messages):
    """A tokenizer with a token a character, whose prompt is all but the last turn."""
    texts = [message["content"] for message in messages]
    return list(map(ord, "".join(texts))), len("".join(texts[:-1]))


def found(messages, tokenize=None, limit=2048):
    return [(each.severity, each.kind) for each in check_row(Row(tuple(messages), 7), tokenize, limit)[0]]


@pytest.mark.parametrize(
    "answer",
    [
        "Hello",
        "`read_file()` wants a path.",
        wrap("result = read_file('a')\nprint(result.content)"),
        wrap("read_file(*paths)\nread_file(**options)"),
        wrap("def read_file():\n    pass\nread_file()"),
        wrap("for check in (typecheck, ruff_check):\n    check('src')"),
        wrap("from json import dumps as text\nprint(text(git_status().files))"),
        wrap("run_command('ls', ['-l'], cwd='src')"),
        wrap("import re\nre.match('\\d', 'x')"),
    ],
)
def test_good_rows(answer):
    """What is right is not complained of."""
    assert found(turns(answer), spell) == []


@pytest.mark.parametrize(
    ("answer", "finding"),
    [
        (" \n", "no supervised tokens"),
        ("<tool_call>read_file('a')</tool_call>", "malformed wrapper"),
        (wrap("x")[:-3], "malformed wrapper"),
        (wrap("x").removeprefix("<tool_call>"), "malformed wrapper"),
        (wrap("read_file("), "code does not parse"),
        (wrap("x = '\x00'"), "code does not parse"),
        (wrap("(" * 1000), "code does not parse"),
        (wrap("readfile('a')"), "unknown tool"),
        (wrap("x").replace("execute_code", "read_file"), "unknown tool"),
        (wrap("read_file()"), "wrong arguments"),
        (wrap("read_file('a', 'b')"), "wrong arguments"),
        (wrap("print(git_log(count=3, branch='main').commits)"), "wrong arguments"),
    ],
)
def test_bad_answers(answer, finding):
    """Each fault of an answer is found once, and nothing else with it."""
    assert found(turns(answer), spell) == [("error", finding)]


def test_doubtful_turns():
    """Empty turns ahead of the answer and a late system turn are warnings."""
    messages = [*turns("Hello", request=""), *turns("Hello")]
    assert found(messages) == [("warning", "empty turn"), ("warning", "turn order")]


@pytest.mark.parametrize(
    ("limit", "finding"),
    [
        (32, []),
        (31, [("warning", "over-long")]),
        (28, [("warning", "over-long")]),
        (27, [("error", "no supervised tokens")]),
        (10, [("error", "no supervised tokens")]),
    ],
)
def test_length(limit, finding):
    """A row over the limit is a warning while some of its answer is left, and an error when none is."""
    assert found(turns("Hello"), spell, limit) == finding


def test_template_refuses():
    """A row that the chat template refuses is an error in the template's words."""

    def refuse(messages):
        raise ValueError("after the user must come the assistant")

    (finding,), _ = check_row(Row(tuple(turns("Hello")), 7), refuse, 2048)
    assert finding.kind == "cannot be rendered"
    assert "after the user" in finding.what
    assert finding.where == "line 7"


def test_planted_faults(tmp_path):
    """A folder with five planted faults gets exactly those five, each with its line."""
    good = [turns(wrap(f"read_file('{name}.py')"), f"Show me {name}.py") for name in ("app", "core", "main")]
    human = [{"role": "human", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]
    unknown = turns(wrap("cat('a.py')"), "What is in a.py?")
    open_ = turns("<tool_call>read_file('b.py')", "And in b.py?")
    train = write(tmp_path, "train", good[0], "{not json", human, good[1], unknown, open_)
    valid = write(tmp_path, "valid", good[2], turns(wrap("print('x'"), "Print x"))
    report = check(tmp_path)
    assert [(each.where, each.kind) for each in report.errors] == [
        (f"{train}:2", "cannot be read"),
        (f"{train}:3", "not a conversation"),
        (f"{train}:5", "unknown tool"),
        (f"{train}:6", "malformed wrapper"),
        (f"{valid}:2", "code does not parse"),
    ]
    assert (report.warnings, report.overlaps) == ([], [])


LONG = "Please rename the method load_settings to read_settings in src/config/loader.py for me"


def test_overlaps(tmp_path):
    """Overlaps are found within a file, across files and against a suite, and distinguished by kind."""
    rows = [turns("a", LONG), turns("a", LONG), turns("b", LONG), turns("c", "What is a monad?")]
    write(tmp_path, "train", *rows)
    write(tmp_path, "valid", turns("c", f" {LONG.upper()}\n"), turns("d", "Sing a song"))
    prompts = [LONG + ".", "what is  a monad?", LONG + ".", "Tell the time"]
    report = check(
        tmp_path, suites={"core27": {f"x-0{number}": text for number, text in enumerate(prompts, 1)}}
    )
    seen = {(each.relation, each.later.place.rpartition("/")[2], each.kind) for each in report.overlaps}
    assert seen == {
        ("train.jsonl", "train.jsonl:2", "same conversation"),
        ("train.jsonl", "train.jsonl:3", "same request"),
        ("train.jsonl – valid.jsonl", "valid.jsonl:1", "same request"),
        ("train.jsonl – core27", "core27[x-01]", "similar request"),
        ("train.jsonl – core27", "core27[x-02]", "same request"),
        ("train.jsonl – core27", "core27[x-03]", "similar request"),
    }
    assert report.errors == []


def test_exact_twin_among_many():
    """A suite's prompt is found in the data however many near kin stand around it."""
    rows = [Request("train", str(number), f"{LONG} {number}", number) for number in range(2000)]
    found = find_overlaps([*rows, Request("suite", "x", rows[1234].text)])
    (overlap,) = [each for each in found if each.later.source == "suite"]
    assert (overlap.kind, overlap.earlier.place) == ("same request", "1234")


def pieces(text):
    return {text[start : start + PIECE] for start in range(len(text) - PIECE + 1)}


def test_similarity_is_the_jaccard_index():
    """The estimate agrees with the exact index within four standard errors, for like and unlike texts."""
    texts = [normal(item.prompt) for item in load_suite(resource("data/suites/wide270.jsonl"))][:40]
    texts += [text + " please" for text in texts]
    for one in texts:
        for other in texts:
            exact = len(pieces(one) & pieces(other)) / len(pieces(one) | pieces(other))
            estimate = (signature(one) == signature(other)).mean()
            assert abs(estimate - exact) <= 4 * (exact * (1 - exact) / VALUES) ** 0.5 + 1 / VALUES


def test_nearest():
    """Each text gets its nearest earlier text of every source, and none where nothing is near."""
    texts = [LONG, "Sing a song about the sea", LONG + " now", LONG + " today"]
    similarities, indices = nearest(np.stack([signature(text) for text in texts]), np.array([0, 0, 1, 1]))
    assert (similarities >= SIMILAR).tolist() == [[False, False], [False, False], [True, False], [True, True]]
    assert (indices[2, 0], indices[3, 0], indices[3, 1]) == (0, 0, 2)


@pytest.mark.parametrize("text", ["", "a", "é", "\ud800"])
def test_tiny_texts(text):
    """A text shorter than a piece has a signature, too."""
    assert signature(text).shape == (VALUES,)


def test_report(tmp_path):
    """The report shows counts, places, system prompts and lengths; more than twenty of a kind are counted."""
    rows = [turns("", f"Request {word}") for word in range(25)]
    train = write(tmp_path, "train", *rows, turns("x", system="Be brief."), turns("y")[1:])
    report = check(tmp_path)
    assert report.system_prompts == {"You help.": 25, "Be brief.": 1, "": 1}
    text = report.render()
    assert "rows 27, errors 25, warnings 0" in text
    assert f"{train}:20  The last response is empty" in text
    assert f"{train}:21  The last response is empty" not in text
    for part in ("… and 5 more", "Be brief.", "(none)", "≤ 32"):
        assert part in text


def test_lengths_in_tokens(tmp_path):
    """With a tokenizer the lengths are in tokens, and every example is tokenized once."""
    calls = []
    tokenize = lambda messages: calls.append(messages) or spell(messages)  # noqa: E731
    report = check(write(tmp_path, "train", turns("Hello"), turns("Hi")), tokenize=tokenize)
    assert (report.unit, report.lengths) == ("tokens", {"train.jsonl": [32, 29]})
    assert len(calls) == 2


def test_progress(tmp_path):
    """Progress is told in bytes and ends at the whole."""
    path = write(tmp_path, "train", *[turns("Hi", str(number)) for number in range(1200)])
    seen = []
    check(tmp_path, progress=lambda done, total: seen.append((done, total)))
    size = path.stat().st_size
    assert [total for _, total in seen] == [size] * 3
    assert seen[0][0] < seen[1][0] < seen[2][0] == size


def test_nothing_to_check(tmp_path):
    """A missing path and a folder without data are refused in words; an empty file is an error of its own."""
    for path in (tmp_path, tmp_path / "none"):
        with pytest.raises(DataError, match="nothing to check"):
            check(path)
    (tmp_path / "train.jsonl").touch()
    (finding,) = check(tmp_path).errors
    assert finding.kind == "no rows"


def test_shipped_data_is_clean():
    """The shipped data set has no error, no warning, and nothing of the shipped suites in it."""
    suites = {
        name: {item.id: item.prompt for item in load_suite(resource(f"data/suites/{name}.jsonl"))}
        for name in ("core27", "wide270")
    }
    report = check(resource("data/code_mode"), suites=suites)
    assert report.findings == []
    assert {each.relation for each in report.overlaps} <= {"train.jsonl", "valid.jsonl"}
