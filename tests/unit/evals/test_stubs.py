import dataclasses

import pydantic_monty
import pytest

from punie.evals.stubs import RESULTS, Call, Recorder
from punie.formats.tools import TOOLS

SAMPLES = {"str": "src/app.py", "int": 3, "bool": True, "list[str]": ["-v"]}


@pytest.mark.parametrize("name", TOOLS)
def test_every_stub_records_its_call_and_returns_its_result_type(name):
    """A stub records its arguments by name and returns the declared result, which holds plain values only."""
    recorder = Recorder()
    arguments = {each.name: SAMPLES[each.type] for each in TOOLS[name].parameters}
    result = recorder.functions()[name](*arguments.values())
    assert type(result) is RESULTS[TOOLS[name].returns]
    assert recorder.calls == [Call(name, arguments)]
    for value in dataclasses.asdict(result).values():
        assert isinstance(value, (str, int, bool)) or all(isinstance(each, str) for each in value)


def test_a_result_echoes_the_argument_it_is_about():
    """read_file's result names the path that was requested; a result's list is its own."""
    functions = Recorder().functions()
    assert functions["read_file"]("README.md").path == "README.md"
    assert functions["git_status"]().files is not functions["git_status"]().files


def test_a_refused_call_is_not_recorded():
    """Wrong arguments raise TypeError and leave no trace in the record."""
    recorder = Recorder()
    with pytest.raises(TypeError, match="typecheck"):
        recorder.functions()["typecheck"]()
    assert recorder.calls == []


def test_results_work_inside_the_sandbox_interpreter():
    """Sandboxed code can call a stub and read its result's fields."""
    recorder = Recorder()

    def wrapped(function):
        return lambda *a, **k: pydantic_monty.ClassInstance(function(*a, **k), eager_attrs="all")

    lookup = {name: wrapped(function) for name, function in recorder.functions().items()}
    with pydantic_monty.Monty() as pool, pool.checkout() as session:
        value = session.feed_run(
            'result = typecheck("src/")\nprint(result.success, len(result.errors))\nresult.success',
            external_lookup=lookup,
            print_callback=lambda *_: None,
        )
    assert value is True
    assert recorder.calls == [Call("typecheck", {"path": "src/"})]
