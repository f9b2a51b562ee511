"""Inputs that once ended as none may, each as small as it was found to be; played in every test run."""

from __future__ import annotations

import json
import struct
from typing import Any

from tests.malformed.jsonl_files import CALL, ITEM, NATIVE_ITEM, NATIVE_ROW, RECORD, ROW
from tests.malformed.models import CONFIG, FILE, HEADER, INDEX, SHARDS, whole_model
from tests.malformed.run_files import STATUS, config, finished_run, plan


def _lines(value: dict[str, Any]) -> bytes:
    return json.dumps(value).encode() + b"\n"


def _turn(**fields: Any) -> bytes:
    return _lines({"messages": [{"role": "user", "content": "?"}, {"role": "assistant", **fields}]})


def _tool(schema: dict[str, Any]) -> bytes:
    """A row that calls a tool with this schema."""
    return _lines({**NATIVE_ROW, "tools": [{"name": "weather", "parameters": schema}]})


def _weights(header: object) -> bytes:
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + bytes(48)


def _entry(**fields: Any) -> bytes:
    return _weights({**HEADER, "model.norm.weight": {**HEADER["model.norm.weight"], **fields}})


def _model(**files: Any) -> dict[str, bytes]:
    found = {FILE: HEADER, "config.json": CONFIG, INDEX: SHARDS} | files
    return {
        name: _weights(each) if name == FILE else json.dumps(each).encode() for name, each in found.items()
    }


def _tokenizer(**fields: Any) -> dict[str, bytes]:
    return {
        "tokenizer_config.json": json.dumps({**whole_model()["tokenizer_config.json"], **fields}).encode()
    }


def _job(**fields: Any) -> bytes:
    first, second = plan()["jobs"]
    return json.dumps({**plan(), "jobs": [{**first, **fields}, second]}).encode()


def _run(config_yaml: bytes) -> dict[str, bytes]:
    return {
        "results.json": json.dumps(finished_run()["results.json"]).encode(),
        "status.json": json.dumps(STATUS).encode(),
        "samples.jsonl": _lines(RECORD),
        "config.yaml": config_yaml,
    }


def _finished(**files: Any) -> dict[str, bytes]:
    return {name: json.dumps(value).encode() for name, value in (finished_run() | files).items()}


def _keyless() -> dict[str, Any]:
    return {**finished_run()["results.json"], "artifacts": {"evaluate": {"files": {}}}}


def _answer(**fields: Any) -> dict[str, bytes]:
    return {"samples.jsonl": _lines({**RECORD, **fields})}


def _bomb() -> bytes:
    """Ten lines that stand for a billion values."""
    rows = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    rows += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 10)]
    return "\n".join(rows).encode()


_SCORES = {"keyword": {"value": 2.0, "reason": ""}, "strict": {"value": 2.0, "reason": ""}}
_DEEP = b'{"a": ' + b"[" * 900 + b"]" * 900 + b"}"

_DEEPER = '{"a":' * 900 + "1" + "}" * 900
_REFERS = {"name": "weather", "parameters": {"properties": {"city": {"$ref": "#/$defs/none"}}}}

FOUND: tuple[tuple[str, str, Any], ...] = (
    ("training data", "field names fill the screen", _lines({"x" * 30_000: 1})),
    ("training data", "the stack ends within a value", _DEEP),
    ("training data", "messages that are null", _lines({"messages": None})),
    ("training data", "a number beside a system prompt", _lines({"messages": 3, "system": "S"})),
    ("training data", "a function_call that is text", _turn(tool_calls=[CALL], function_call="f")),
    ("training data", "arguments 900 objects deep", _turn(tool_calls=[{"name": "f", "arguments": _DEEPER}])),
    ("training data", "tools of 100,000 brackets", _lines({**ROW, "tools": "[" * 100_000})),
    ("training data", "half of a surrogate pair in a tool", _lines({**ROW, "tools": [{"name": "\ud800"}]})),
    ("data check", "a parameter that is true", _tool({"properties": {"city": True}})),
    ("data check", "a schema that refers to itself", _tool({"$ref": "#"})),
    ("data check", "a schema that refers elsewhere", _tool({"properties": {"city": {"$ref": "https://x.invalid"}}})),
    ("suites", "a parameter that refers to nothing", _lines({**NATIVE_ITEM, "tools": [_REFERS]})),
    ("data check", "the stack ends within a value", _lines({**ROW, "x": json.loads(_DEEP)})),
    ("suites", "an unknown field fills the screen", _lines({**ITEM, "x" * 30_000: 1})),
    ("suites", "a million unknown fields", _lines({**ITEM, **{f"f{n}": n for n in range(20_000)}})),
    ("suites", "half of a surrogate pair", _lines({**ITEM, "prompt": "\ud800"})),
    ("recorded responses", "a score of 2", _lines({**RECORD, "scores": _SCORES})),
    ("recorded responses", "the stack ends within a value", _lines({**RECORD, "x": json.loads(_DEEP)})),
    ("grids of sweeps", "a step of 0", ["seed=range(1,5,0)"]),
    ("grids of sweeps", "a range of no numbers", ["eval.temperature=range(nan,1)"]),
    ("grids of sweeps", "a range that never ends", ["eval.temperature=range(0,1,1e-300)"]),
    ("grids of sweeps", "ten billion jobs", ["lora.seed=range(1,10000000000)"]),
    ("grids of sweeps", "ten billion jobs, shuffled", ["lora.seed=shuffle(range(1,10000000000))"]),
    ("grids of sweeps", "a hundred million jobs", ["lora.seed=range(0,10000)", "eval.seed=range(0,10000)"]),
    ("grids of sweeps", "no job", ["lora.seed=range(5,1)"]),
    ("grids of sweeps", "a range among values", ["lora.seed=1,range(1,3)"]),
    ("grids of sweeps", "5,000 digits", ["name=" + "1" * 5_000]),
    ("grids of sweeps", "900 brackets", ["name=" + "[" * 900]),
    ("overrides", "a group of lists", ["model=[[tiny]]"]),
    ("overrides", "a group of a number", ["model=0.5"]),
    ("overrides", "below what is not there", ["phase.baseline.source=words"]),
    ("overrides", "a name that no file can have", ["+phase=" + "x" * 300]),
    ("overrides", "5,000 digits", ["seed=" + "1" * 5_000]),
    ("overrides", "an interpolation that cannot be read", ["++eval.min_p=${oc.decode:'[1'}"]),
    ("weight files", "a header that is a list", _weights([])),
    ("weight files", "900 brackets", struct.pack("<Q", len(_DEEP)) + _DEEP),
    ("weight files", "no type", _weights({"a": {"shape": [24], "data_offsets": [0, 48]}})),
    ("weight files", "a type that is a number", _entry(dtype=1)),
    ("weight files", "an extent that is text", _entry(shape=["4"])),
    ("weight files", "an extent that is true", _entry(shape=[4, True])),
    ("weight files", "more values than bytes", _entry(shape=[4_000_000])),
    ("weight files", "three offsets", _entry(data_offsets=[40, 48, 48])),
    ("model folders", "a quantization that is a list", _model(**{"config.json": {**CONFIG,
    "quantization": [1]}})),
    ("model folders", "0 bits", _model(**{"config.json": {**CONFIG, "quantization": {"bits": 0}}})),
    ("model folders", "an index that is a list", _model(**{INDEX: [1]})),
    ("model folders", "a weight map of numbers", _model(**{INDEX: {"weight_map": {"a": 1}}})),
    ("model folders", "a weight map of lists", _model(**{INDEX: {"weight_map": {"a": [FILE]}}})),
    ("model folders", "a weight map out of the folder", _model(**{INDEX: {"weight_map": {"a": "../../x"}}})),
    ("loaded models", "a tokenizer cut short", {"tokenizer.json": b'{"version": "1.0", "model": {'}),
    ("loaded models", "a tokenizer of another kind", {"tokenizer.json": b'{"model": {"type": "none"}}'}),
    ("loaded models", "a template that mlx-lm has not", _tokenizer(chat_template_type="nope")),
    ("loaded models", "a token that is a number", _tokenizer(eos_token=5)),
    ("loaded models", "a class that is a number", _tokenizer(tokenizer_class=5)),
    ("loaded models", "0 heads", {"config.json": json.dumps({**whole_model()["config.json"],
    "num_attention_heads": 0}).encode()}),
    ("run folders", "20,000 brackets in YAML", _run(b"[" * 20_000)),
    ("run folders", "a bomb of aliases", _run(_bomb())),
    ("run folders", "a wrapper that is text", _run(json.dumps(config()).encode()) | _answer(wrapper="x")),
    ("run folders", "a seed that is infinite", _run(b"eval: {temperature: 1}\nlora: {seed: .inf}")),
    ("run folders", "a store that is a number", _finished(**{"status.json": {**STATUS, "store": 1}})),
    ("run folders", "an artifact without a key", _finished(**{"results.json": _keyless()})),
    ("run folders", "provenance of lists", _finished(**{"provenance.json": {"git": [1], "packages": [[]]}})),
    ("config files", "a text", b'"words"'),
    ("config files", "a bomb of aliases", _bomb()),
    ("config files", "a key that fills the screen", b"x" * 30_000 + b": 1"),
    ("sweep plans", "the stack ends within a value", _DEEP),
    ("sweep plans", "a stage that is not among the parts", _job(stages=["x"])),
    ("sweep plans", "a job out of the folder", _job(id="/../../x")),
    ("sweep plans", "a config with a number for a group", _job(config={**config(), "eval": 0.5})),
    ("sweep plans", "an option among the overrides", json.dumps({**plan(), "arguments":
    ["--experimental-rerun=config.pickle"]}).encode()),
    ("sweep plans", "another version, at length", json.dumps({"schema": "x" * 30_000}).encode()),
    ("status files", "a list", b"[]"),
    ("status files", "no status", b"{}"),
    ("status files", "cut short", b'{"status": "fin'),
    ("status files", "a number of 5,000 digits", b"1" * 5_000),
    ("status files", "100,000 brackets", b"[" * 100_000),
)  # fmt: skip
"""Surface, what is wrong, and the input."""
