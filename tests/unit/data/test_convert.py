"""Parquet files and data sets of the hub, as the JSON Lines that everything else reads."""

from __future__ import annotations

import datetime
import errno
import json
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import huggingface_hub
import huggingface_hub.constants
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from punie.__main__ import main
from punie.config.schema import DataConfig
from punie.data import convert as module
from punie.data import hub
from punie.data.convert import convert, convert_repo, notes
from punie.data.load import load_rows
from punie.model.resolve import NotCached
from punie.stages.inputs import data_digests, data_folder, data_source
from punie.util.errors import DataError, Problems, PunieError, StoreError

REPO, COMMIT = "owner/calls", "c" * 40


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's caches, of punie and of the hub's client, in a folder of the test."""
    monkeypatch.setattr(module, "user_cache", lambda: tmp_path / "cache")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "cache"


def tool(name: str, **properties: str) -> dict[str, Any]:
    schema = {"type": "object", "properties": {key: {"type": kind} for key, kind in properties.items()}}
    return {"type": "function", "function": {"name": name, "description": name, "parameters": schema}}


def example(number: int, **more: Any) -> dict[str, Any]:
    """A row whose tools and arguments have other fields than those of its neighbours."""
    name, arguments = ("at", {"city": "Zürich\u2028"}) if number % 2 else ("now", {"zone": number})
    call = {"function": {"name": name, "arguments": arguments}}
    return {
        "messages": [
            {"role": "user", "content": f"Question {number}?"},
            {"role": "assistant", "content": None, "tool_calls": [call]},
        ],
        "tools": [tool("at", city="string"), tool("now", zone="integer")],
        **more,
    }


def parquet(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows), path)
    return path


def lines(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def asked(path: Path) -> list[str]:
    """The numbers of the rows of a file, by their questions."""
    return [row.messages[0]["content"].split()[-1] for row in load_rows(path)]


def cached(home: Path, files: dict[str, bytes], *, lost: tuple[str, ...] = ()) -> Path:
    """A data set in the layout of the hub's cache: refs, snapshots, blobs, and the list of its files."""
    repo = home / "hub" / "datasets--owner--calls"
    snapshot = repo / "snapshots" / COMMIT
    for folder in (snapshot, repo / "refs", repo / "blobs", repo / "trees"):
        folder.mkdir(parents=True)
    (repo / "refs" / "main").write_text(COMMIT)
    entries = {
        name: {"size": len(data), "blob_id": f"{at:040x}"} for at, (name, data) in enumerate(files.items())
    }
    tree = {"format_version": 1, "files": entries}
    (repo / "trees" / f"{COMMIT}.json").write_text(json.dumps(tree))
    for name in files.keys() - {*lost}:
        (snapshot / name).parent.mkdir(parents=True, exist_ok=True)
        blob = repo / "blobs" / str(entries[name]["blob_id"])
        blob.write_bytes(files[name])
        (snapshot / name).symlink_to(blob)
    return snapshot


def test_parquet_gives_the_rows_that_json_lines_give(tmp_path: Path) -> None:
    """Fields that a struct has for other rows only are absent again; what that assumes is said."""
    rows = [example(at) for at in range(6)]
    stamped = [row | {"made": datetime.datetime(2026, 1, 1)} for row in rows]
    parquet(tmp_path / "set" / "train.parquet", stamped)
    parquet(tmp_path / "set" / "validation-00000-of-00001.parquet", stamped[:2])
    found = convert(tmp_path / "set")
    for name, written in (("train", rows), ("valid", rows[:2])):
        expected = load_rows(lines(tmp_path / f"{name}.jsonl", written))
        assert load_rows(found.path / f"{name}.jsonl") == expected
    said = "\n".join(notes(found.info, "set"))
    assert "train.jsonl is the split train of set" in said
    assert "train.jsonl: 6 examples: null in tools or arguments is read as absent" in said
    assert "the column 'made' (timestamp[us]) is left out" in said


def test_what_was_null_for_want_of_a_value_is_no_value(tmp_path: Path) -> None:
    """Objects that are all null are absent, arguments may be empty, null in lists and as content stays."""
    call = {"function": {"name": "f", "arguments": {"a": None, "b": {"c": None}}}}
    turn = {"role": "assistant", "content": None, "name": None, "tool_calls": [call]}
    properties = {"a": {"type": None, "enum": None}, "b": {"type": "string", "enum": ["x", None]}}
    function = {"name": "f", "parameters": {"type": "object", "properties": properties}}
    row = {"messages": [turn], "tools": [{"function": function}], "system": None}
    found = convert(parquet(tmp_path / "x.parquet", [row])).path / "train.jsonl"
    assert json.loads(found.read_text()) == {
        "messages": [
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [{"function": {"name": "f", "arguments": {}}}],
            }
        ],
        "tools": [
            {
                "function": {
                    "name": "f",
                    "parameters": {
                        "type": "object",
                        "properties": {"b": {"type": "string", "enum": ["x", None]}},
                    },
                }
            }
        ],
    }


def test_types_that_json_has_are_read(tmp_path: Path) -> None:
    """Maps are objects, columns of type JSON keep their nulls, files may differ in columns."""
    kind = pa.struct({"name": pa.string(), "arguments": pa.map_(pa.string(), pa.int64())})
    json_type = pa.json_()
    tools = pa.ExtensionArray.from_storage(json_type, pa.array(['[{"default": null}]']))
    calls = pa.array([[{"name": "f", "arguments": [("a", 1)]}]], pa.list_(kind))
    pq.write_table(pa.table({"tools": tools, "messages": calls}), tmp_path / "train-1.parquet")
    label = pa.array(["b"]).dictionary_encode()
    dates = pa.array([datetime.date(2026, 1, 1)])
    pq.write_table(pa.table({"text": label, "day": dates}), tmp_path / "train-2.parquet")
    found = convert(tmp_path)
    assert [json.loads(line) for line in (found.path / "train.jsonl").open()] == [
        {"tools": [{"default": None}], "messages": [{"name": "f", "arguments": {"a": 1}}]},
        {"text": "b"},
    ]
    assert found.info["splits"]["train.jsonl"]["left_out"] == {"day": "date32[day]"}


CARD = """---
configs:
- config_name: long
  default: true
  data_files:
  - {split: train_sft, path: "long/train-*"}
  - {split: test_sft, path: "long/test-*"}
- config_name: short
  data_dir: short
---
# Calls
"""


@pytest.mark.parametrize(
    ("options", "train", "valid"),
    [
        ({"train": "train_sft", "valid": "test_sft"}, "01234", "56"),
        ({"train": "train_sft[40%:]", "valid": "train_sft[:2]"}, "234", "01"),
        ({"train": "train_sft+test_sft[:1]"}, "012345", None),
        ({"config": "short"}, "789", "0"),
        ({"config": "short", "train": "train[:1]", "valid": "train[1:]"}, "7", "89"),
    ],
)
def test_the_card_and_the_split_say_which_rows(
    tmp_path: Path, options: dict[str, str], train: str, valid: str | None
) -> None:
    """Splits are those of a config of the card; a split may be a part, or a sum of parts."""
    rows = [example(at) for at in range(10)]
    parquet(tmp_path / "long" / "train-00000-of-00002.parquet", rows[:3])
    parquet(tmp_path / "long" / "train-00001-of-00002.parquet", rows[3:5])
    parquet(tmp_path / "long" / "test-00000-of-00001.parquet", rows[5:7])
    lines(tmp_path / "short" / "train.jsonl", rows[7:])
    (tmp_path / "short" / "dev.json").write_text(json.dumps(rows[:1]))
    (tmp_path / "README.md").write_text(CARD)
    found = convert(tmp_path, **options)
    numbers = {
        name: "".join(each.rstrip("?") for each in asked(found.path / name))
        for name in ("train.jsonl", "valid.jsonl")
        if (found.path / name).exists()
    }
    assert numbers == {"train.jsonl": train} | ({} if valid is None else {"valid.jsonl": valid})


def test_rows_are_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same files are not read again, wherever they are; another file or split is."""
    parquet(tmp_path / "one" / "train.parquet", [example(at) for at in range(4)])
    first = convert(tmp_path / "one").path
    (tmp_path / "one").rename(tmp_path / "two")
    with monkeypatch.context() as context:
        context.setattr(hub, "library", lambda: pytest.fail("read again"))
        assert convert(tmp_path / "two").path == first
    part = convert(tmp_path / "two", "train[2:]")
    assert asked(part.path / "train.jsonl") == ["2?", "3?"]
    assert "line 1 is row 3" in next(notes(part.info, "two"))
    parquet(tmp_path / "two" / "train.parquet", [example(7)])
    assert asked(convert(tmp_path / "two").path / "train.jsonl") == ["7?"]


def _corrupt(folder: Path) -> None:
    whole = parquet(folder / "train.parquet", [example(0)]).read_bytes()
    (folder / "train.parquet").write_bytes(whole[:200] + whole[300:])


def _card(text: str) -> Any:
    def make(folder: Path) -> None:
        parquet(folder / "train.parquet", [example(0)])
        (folder / "README.md").write_text(f"---\n{text}\n---\n")

    return make


def _elsewhere(path: str) -> Any:
    return _card(f"configs:\n- config_name: x\n  data_files: {path}")


def _row(**more: Any) -> Any:
    return lambda folder: parquet(folder / "train.parquet", [example(0, **more)])


def _mixed(folder: Path) -> None:
    parquet(folder / "train.parquet", [example(0)])
    lines(folder / "train.jsonl", [example(0)])


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (_corrupt, r"cannot be read"),
        (lambda folder: (folder / "train.parquet").write_bytes(b""), "cannot be read"),
        (lambda folder: (folder / "data.csv").write_text("a,b\n"), r"no files that can be read"),
        (
            lambda folder: parquet(folder / "test.parquet", [example(0)]),
            r"no split 'train'[\s\S]*splits test",
        ),
        (_mixed, r"several kinds[\s\S]*train.jsonl, train.parquet[\s\S]*data.path=FILE"),
        (_row(image=b"\x89PNG"), r"image: binary"),
        (_row(prompt=datetime.datetime(2026, 1, 1)), r"prompt: timestamp"),
        (_row(x=float("nan")), r"row 1 of train"),
        (lambda folder: lines(folder / "train.jsonl", [{"text": "\ud800"}]), r"row 1 of train"),
        (lambda folder: (folder / "train.json").write_text("[{}, 1]"), r"row 2\n.*found +1"),
        (lambda folder: (folder / "train.jsonl").write_text("{}\n{\n"), r"train.jsonl:2"),
        (_elsewhere("../train.parquet"), r"not the data set's[\s\S]*\.\./train"),
        (_elsewhere("/etc/train.parquet"), r"not the data set's"),
        (_elsewhere('"https://example.invalid/train.parquet"'), r"not the data set's"),
        (_card("a: &a [x, x]\nb: [*a, *a]"), r"card.*cannot be read[\s\S]*alias"),
        (_card("configs: 7"), r"card.*cannot be read"),
        (
            _card("configs:\n- {config_name: a, data_files: a*}\n- {config_name: b, data_files: b*}"),
            "one of a, b",
        ),
    ],
)
def test_what_cannot_be_read_is_refused(tmp_path: Path, make: Any, words: str) -> None:
    """Broken and mixed files, values that JSON lacks, and cards that lead elsewhere."""
    (tmp_path / "set").mkdir()
    make(tmp_path / "set")
    with pytest.raises(PunieError, match=words) as caught:
        convert(tmp_path / "set")
    assert isinstance(caught.value, DataError | Problems)
    assert not [*(tmp_path / "cache" / "rows").glob("*")]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"train": "nope"}, "no split 'nope'"),
        ({"train": "train[;"}, r"no split 'train\[;'"),
        ({"valid": "train[:50%]"}, r"share rows[\s\S]*rows 1 to 2 of train[\s\S]*data.valid_split"),
        ({"config": "x"}, "declares no configs"),
    ],
)
def test_splits_that_are_none_are_refused(tmp_path: Path, options: dict[str, str], words: str) -> None:
    """An unknown split or config, and a validation split with rows of the training split."""
    parquet(tmp_path / "set" / "train.parquet", [example(at) for at in range(4)])
    with pytest.raises(DataError, match=words):
        convert(tmp_path / "set", **options)


def test_a_data_set_of_the_hub_is_its_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is found in the hub's cache by branch and by commit, as the same rows, and not read twice."""
    rows = [example(at) for at in range(3)]
    files = {
        "data/train-00000-of-00001.parquet": parquet(tmp_path / "t", rows).read_bytes(),
        "data/validation-00000-of-00001.parquet": parquet(tmp_path / "v", rows[:1]).read_bytes(),
        "script.py": b"raise SystemExit",
    }
    snapshot = cached(tmp_path, files, lost=("script.py",))
    data = DataConfig(name="hub", repo=REPO)
    folder = data_folder(data)
    assert (asked(folder / "train.jsonl"), asked(folder / "valid.jsonl")) == (["0?", "1?", "2?"], ["0?"])
    assert data_source(data)["source"] == {"repo": REPO, "commit": COMMIT, "config": None}
    with monkeypatch.context() as context:
        context.setattr(hub, "snapshot", lambda *_: pytest.fail("read again"))
        assert data_folder(DataConfig(name="hub", repo=REPO, revision=COMMIT)) == folder
    copied = DataConfig(name="x", path=str(snapshot))
    assert data_digests(copied) == data_digests(data)


@pytest.mark.parametrize("lost", ["data/b.parquet", "README.md"])
def test_an_interrupted_download_is_no_data_set(tmp_path: Path, lost: str) -> None:
    """A file of the commit that is not there yet is not left out in silence."""
    data = parquet(tmp_path / "t", [example(0)]).read_bytes()
    cached(tmp_path, {"data/a.parquet": data, "data/b.parquet": data, "README.md": b"# Calls"}, lost=(lost,))
    with pytest.raises(NotCached, match=r"hf download --repo-type dataset owner/calls --revision main"):
        convert_repo(REPO, "main")


def test_a_link_out_of_the_hubs_cache_is_not_followed(tmp_path: Path) -> None:
    """What a snapshot links to is a blob beside it."""
    snapshot = cached(tmp_path, {"train.parquet": b""}, lost=("train.parquet",))
    (snapshot / "train.parquet").symlink_to(parquet(tmp_path / "mine.parquet", [example(0)]))
    with pytest.raises(DataError, match=r"leads out[\s\S]*mine\.parquet"):
        convert_repo(REPO, "main")


def test_a_name_that_is_none_is_refused(tmp_path: Path) -> None:
    """A repo is no path."""
    with pytest.raises(DataError, match="OWNER/NAME"):
        convert_repo("../../etc", "main")


def test_a_download_says_its_size_and_takes_the_files_of_the_config(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only what the card declares for the config is fetched, and the size is known before."""
    (tmp_path / "README.md").write_text(CARD)
    fetched, said, sizes = [], [], [3 * 10**9]

    def fetch(repo: str, *, allow_patterns: list[str], dry_run: bool = False, **_: Any) -> Any:
        fetched.append(allow_patterns)
        return [
            SimpleNamespace(filename="train-1.parquet", file_size=size, will_download=True) for size in sizes
        ]

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", lambda *_, **__: str(tmp_path / "README.md"))
    monkeypatch.setattr(huggingface_hub, "snapshot_download", fetch)
    hub.download(REPO, "main", None, said.append)
    assert fetched == [["README.md", "long/train-*", "long/test-*"]] * 2
    assert said == ["  downloading owner/calls (3.00 GB) ..."]
    sizes[:] = [10**15]
    with pytest.raises(PunieError, match=r"not enough free disk[\s\S]*owner/calls"):
        hub.download(REPO, "main", "short", said.append)
    assert fetched[2:] == [["README.md", "short/*.parquet", "short/*.jsonl", "short/*.json"]]
    sizes.clear()
    with pytest.raises(DataError, match=r"scripts are never run[\s\S]*refs/convert/parquet"):
        hub.download(REPO, "main", None, said.append)


def test_without_a_connection_the_way_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """Offline, a data set that is not here names the command for a connected machine."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(PunieError, match=r"hf download --repo-type dataset owner/calls[\s\S]*data=jsonl"):
        hub.download(REPO, "main", None, print)


def test_a_full_disk_is_no_fault_of_the_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is the cache folder that needs space."""

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(module, "_write", full)
    with pytest.raises(StoreError, match=r"No space left[\s\S]*cache folder"):
        convert(parquet(tmp_path / "x.parquet", [example(0)]))


def test_without_the_package_the_command_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """``datasets`` is an extra."""
    monkeypatch.setitem(__import__("sys").modules, "datasets", None)
    with pytest.raises(PunieError, match=r'pip install "punie\[datasets\]"'):
        convert(parquet(tmp_path / "x.parquet", [example(0)]))


def test_check_and_plan_read_parquet(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Findings name the row of the data set; a plan asks for a validation split, and takes a part of one."""
    monkeypatch.chdir(tmp_path)
    rows = [example(at) for at in range(40)]
    rows[2]["messages"] = rows[2]["messages"][:1]
    parquet(tmp_path / "calls.parquet", rows)
    assert main(["data", "check", "calls.parquet"]) == 1
    assert "calls.parquet/train.jsonl:3  The last turn is not the assistant's" in capsys.readouterr().out
    parquet(tmp_path / "calls.parquet", [*rows[:2], *rows[3:]])
    given = ["data=jsonl", "data.path=calls.parquet"]
    assert main(["plan", *given]) == 1
    assert "data.valid_split=" in capsys.readouterr().out
    parts = ["data.train_split='train[:95%]'", "data.valid_split='train[95%:]'"]
    assert main(["plan", *given, *parts]) == 0
    assert "preflight" in capsys.readouterr().out
    assert main(["data", "check", *given, *parts]) == 0
    out = capsys.readouterr().out
    assert "valid.jsonl is the split train[95%:] of calls.parquet; line 1 is row 38" in out
    assert "next: python -m punie data=jsonl data.path=calls.parquet" in out


def test_data_come_from_one_place(capsys: pytest.CaptureFixture[str]) -> None:
    """A path and a repo together are refused."""
    assert main(["plan", "data=hub", "data.repo=owner/calls", f"data.path={os.curdir}"]) == 2
    assert "exactly one place" in capsys.readouterr().err
