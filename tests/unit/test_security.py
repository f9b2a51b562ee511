"""What SECURITY.md promises, statement by statement."""

from __future__ import annotations

import ast
import base64
import dataclasses
import functools
import hashlib
import json
import os
import pickle
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from jinja2 import TemplateError

from punie.__main__ import main as front_door
from punie.config import resolve as check
from punie.config.command import refuse_code
from punie.config.compose import compose
from punie.formats.chat import Chat, Conversation
from punie.formats.code_mode import FORMAT
from punie.model import folders, load, resolve
from punie.results import config
from punie.results.pages import report as reports
from punie.results.records import Phase, Sample
from punie.results.run import Run
from punie.results.summary import documents
from punie.results.summary.summary import summarize
from punie.util.errors import PunieError
from punie.util.paths import PACKAGE, resource
from tests.facts import HOSTILE, Page, facts
from tests.facts import records as samples_of
from tests.hostile import AUTO_TOKENIZER, PLANTED, Bomb, amend, plant
from tests.malformed.run_files import plan as sweep_plan
from tests.unit.results.made import make_run, records
from tests.unit.results.summary import conftest as summaries

SECRET = "hush-4f1c9d"


@pytest.fixture
def marker(tmp_path: Path) -> Path:
    """The file that exists once something planted has run."""
    return tmp_path / "executed"


@pytest.fixture
def hostile(tmp_path: Path, marker: Path) -> Path:
    """A model folder full of what makes the marker when it is run."""
    return plant(tmp_path / "hostile", marker)


def locate(folder: Path) -> Path:
    """The folder, as a run finds it with model.path."""
    return resolve.locate(embedded=None, path=str(folder), repo=None, revision="main")


def open_every_way(folder: Path) -> None:
    """What a run does with a base model: find it, hash it, tokenize with it, compute with it."""
    folders.contents(locate(folder))
    load.tokenizer(folder)
    load.load(folder)


def test_the_planted_files_do_run_when_they_are_opened(hostile: Path, marker: Path) -> None:
    """What the tests below plant would leave its mark: both the code and the pickle make the file."""
    exec(compile((hostile / PLANTED).read_text(), PLANTED, "exec"), {})
    assert marker.exists()
    marker.unlink()
    pickle.loads((hostile / "model.pt").read_bytes())
    assert marker.exists()


def test_python_files_and_pickles_beside_a_model_are_never_opened(hostile: Path, marker: Path) -> None:
    """A model folder full of code and pickles loads as if they were not there."""
    open_every_way(hostile)
    assert not marker.exists()
    parts = set(folders.contents(hostile))
    assert parts == set(folders.contents(resource("data/models/tiny")))


@pytest.mark.parametrize(
    ("fields", "harmless"),
    [
        ({"model_file": PLANTED}, False),
        ({"auto_map": {"AutoModelForCausalLM": "planted.Planted", "AutoConfig": "planted.Planted"}}, True),
        ({"auto_map": AUTO_TOKENIZER}, True),
    ],
    ids=["model_file", "auto_map of the model", "auto_map of the tokenizer"],
)
def test_code_that_a_model_names_is_not_run(
    hostile: Path, marker: Path, fields: dict[str, Any], harmless: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """config.json cannot make anyone run code: mlx-lm's model_file is refused, and auto_map, which many known
    models have, is passed over."""
    monkeypatch.setattr("builtins.input", lambda *_: "y")
    amend(hostile / "config.json", **fields)
    if harmless:
        open_every_way(hostile)
    else:
        with pytest.raises(PunieError, match="code of its own, which punie never does"):
            locate(hostile)
    for below in (load.tokenizer, load.load):
        try:
            below(hostile)
        except PunieError:
            continue
    assert not marker.exists()


@pytest.mark.parametrize("known", [True, False], ids=["a known architecture", "one unknown to transformers"])
def test_a_tokenizer_cannot_bring_its_own_code(
    hostile: Path, marker: Path, known: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """auto_map in tokenizer_config.json is passed over or refused, and nobody is asked to allow it."""

    def ask(prompt: str = "") -> str:
        asked.append(prompt)
        return "y"

    asked: list[str] = []
    monkeypatch.setattr("builtins.input", ask)
    fields = {} if known else {"tokenizer_class": "Planted"}
    amend(hostile / "tokenizer_config.json", auto_map=AUTO_TOKENIZER, **fields)
    if known:
        load.tokenizer(hostile)
    else:
        amend(hostile / "config.json", model_type="bailing_moe")  # mlx-lm has it, transformers has not
        with pytest.raises(PunieError, match="tokenizer cannot be loaded"):
            load.tokenizer(hostile)
    assert asked == []
    assert not marker.exists()


@pytest.mark.parametrize(
    "name",
    [
        "${oc.env:PLANTED}",
        "${oc.env:PLANTED,other}",
        "${oc.${data.name}:PLANTED}",
        "${oc.decode:${oc.env:PLANTED}}",
    ],
)
def test_a_config_cannot_read_the_environment(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """oc.env gives the run's id and nothing else, however it is spelt; the error does not tell the value."""
    monkeypatch.setenv("PLANTED", SECRET)
    with pytest.raises(PunieError) as caught:
        check(compose([f"name='{name}'", "data.name=env"]))
    assert "cannot read the environment variable PLANTED" in str(caught.value)
    assert SECRET not in str(caught.value)
    assert check(compose(["name=${oc.env:PUNIE_RUN_ID}"])).name == os.environ["PUNIE_RUN_ID"]


def test_a_run_from_elsewhere_cannot_read_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A config.yaml that asks for a variable is text when it is shown, and refused when it is run again."""
    monkeypatch.setenv("PLANTED", SECRET)
    path = make_run(tmp_path / "run", records()) / "config.yaml"
    path.write_text(path.read_text().replace("name: tiny\n", "name: ${oc.env:PLANTED}\n", 1))
    config = Run(path.parent).require_finished().config
    assert config.name == "${oc.env:PLANTED}"
    with pytest.raises(PunieError, match="environment variable PLANTED") as caught:
        config.typed(path)
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    "override",
    [
        "+_target_=os.system",
        "+lora._target_=os.system",
        "+lora.optimizer_config._target_=os.system",
        "+model.recipe={deep: [{_target_: os.system}]}",
    ],
)
def test_a_config_that_names_code_is_refused(override: str) -> None:
    """_target_ is refused wherever it stands in a config, also where any other key would be taken."""
    with pytest.raises(PunieError, match=r"cannot name code to run[\s\S]*_target_") as caught:
        check(compose([override]))
    assert caught.value.exit_code == 2


@pytest.mark.parametrize("flags", [[], ["-m"]], ids=["run", "sweep"])
@pytest.mark.parametrize(
    "override",
    [
        "+hydra.callbacks.x={_target_: pathlib.Path.touch, self: MARKER}",
        "+hydra.callbacks.x={'_target_' : pathlib.Path.touch, self: MARKER}",
        "+hydra.launcher.x={_target_: pathlib.Path.touch, self: MARKER}",
        "hydra.sweeper._target_=pathlib.Path.touch",
    ],
)
def test_hydra_makes_nothing_that_a_command_line_names(
    flags: list[str], override: str, marker: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Hydra's own node, from which it does instantiate, takes no _target_ from the command line."""
    assert front_door([*flags, override.replace("MARKER", str(marker)), "seed=0"]) == 2
    assert "cannot name code to run" in capsys.readouterr().err
    assert not marker.exists()


@pytest.mark.parametrize("option", ["--experimental-rerun", "--exp"])
def test_a_run_is_not_read_from_a_pickle(
    option: str, tmp_path: Path, marker: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Hydra's option for that is refused, however short: on the command line, and in the plan of a sweep that
    comes from elsewhere and is resumed, where any option is."""
    pickled = tmp_path / "config.pickle"
    pickled.write_bytes(pickle.dumps(Bomb(marker)))
    given = f"{option}={pickled}"
    assert front_door([given]) == 2
    assert "is not read from a pickle" in capsys.readouterr().err
    for argument in (given, f"--config-path={tmp_path}"):
        (tmp_path / "plan.json").write_text(json.dumps({**sweep_plan(), "arguments": [argument]}))
        assert front_door(["resume", str(tmp_path)]) == 1
        assert "an option, not an override" in capsys.readouterr().err
    assert not marker.exists()


@pytest.mark.parametrize(
    "text",
    [
        "callbacks: {mine: {_target_: os.getcwd}}",
        "job_logging: {formatters: {mine: {(): os.getcwd}}}",
        "job_logging: {handlers: {mine: {class: subprocess.Popen}}}",
        "hydra_logging: {handlers: {mine: {class: logging.StreamHandler, stream: ext://os.environ}}}",
    ],
)
@pytest.mark.parametrize("multirun", [[], ["-m"]], ids=["run", "sweep"])
def test_presets_of_a_folder_cannot_name_code(
    text: str,
    multirun: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A folder of presets, which a plan from elsewhere may carry, is refused before Hydra reads it."""
    (tmp_path / "phase").mkdir()
    (tmp_path / "phase" / "bad.yaml").write_text(f"# @package _global_\nhydra:\n  {text}\n")
    monkeypatch.chdir(tmp_path)
    assert front_door([*multirun, "--config-dir=.", "+phase=bad"]) == 2
    assert "cannot name code to run" in capsys.readouterr().err


def test_a_path_may_have_the_word_in_it() -> None:
    """Only the key is refused, not a value in which its letters occur."""
    refuse_code(["model.path=/data/my_target_model", "name=a_target_b", "eval.stop=['_target_']", "--cfg"])


@pytest.mark.parametrize(
    "name", ["../planted", "planted.planted", ".planted", "/etc/planted", "", None, ["qwen3"]]
)
def test_an_architecture_is_a_name_of_mlx_lms(hostile: Path, name: object) -> None:
    """model_type, which mlx-lm imports a module by, can be neither a path nor a dotted name."""
    amend(hostile / "config.json", model_type=name)
    with pytest.raises(PunieError, match="model_type"):
        locate(hostile)


@pytest.mark.parametrize("name", ["notes.txt", "extra.json", "chat_template.jinja"])
def test_a_link_cannot_bring_a_file_from_elsewhere_into_a_model(
    hostile: Path, tmp_path: Path, name: str
) -> None:
    """A model's small files, which are copied beside the fused weights and exported, must be its own."""
    (tmp_path / "secret").write_text(SECRET)
    (hostile / name).unlink(missing_ok=True)
    (hostile / name).symlink_to("../secret")
    with pytest.raises(PunieError, match="leads out of its folder") as caught:
        locate(hostile)
    assert SECRET not in str(caught.value)


def test_links_within_a_model_and_to_its_weights_are_followed(hostile: Path, tmp_path: Path) -> None:
    """Links within the folder, a link to the folder, and weights kept elsewhere are as good as files."""
    (hostile / "chat_template.jinja").rename(hostile / "template")
    (hostile / "chat_template.jinja").symlink_to("template")
    (hostile / "model.safetensors").rename(tmp_path / "weights")
    (hostile / "model.safetensors").symlink_to(tmp_path / "weights")
    (tmp_path / "link").symlink_to(hostile)
    assert locate(tmp_path / "link") == tmp_path / "link"
    own = resource("data/models/tiny")
    assert folders.contents(tmp_path / "link") == folders.contents(own)


def test_a_pipe_in_a_model_folder_is_refused(hostile: Path) -> None:
    """A named pipe, which would keep whoever opens it waiting for ever, is no part of a model."""
    os.mkfifo(hostile / "added_tokens.json")
    with pytest.raises(PunieError, match="not a file"):
        locate(hostile)


RUNS_DATA = {
    *("eval", "exec", "compile", "__import__", "breakpoint", "importlib.import_module", "runpy.run_path"),
    *("os.system", "os.popen", "os.execv", "os.execvp", "os.startfile", "pty.spawn"),
    *("yaml.load", "yaml.full_load", "yaml.unsafe_load", "yaml.load_all", "numpy.load", "np.load"),
    *("torch.load", "hydra.utils.instantiate", "instantiate", "hydra.utils.call", "get_class", "get_method"),
}
"""Calls that run what they are given, or can be made to."""
ADDRESSES = {"href", "src", "xlink:href", "action", "formaction", "data", "poster", "srcset", "background"}
"""Attributes that a browser follows."""
UNPACKS = {
    *("pickle", "cPickle", "_pickle", "marshal", "shelve", "dill", "cloudpickle", "joblib", "tarfile"),
    "torch",
}
"""Modules whose files can run code, or put files where they please, when they are read."""
ALLOWED = {
    ("__main__.py", "importlib.import_module"): "a module of punie.commands, from the table COMMANDS",
    ("results/config.py", "yaml.load"): "with the safe loader, which the next test looks at",
}
"""File and call, and why it is none of those that the promise is about."""


@functools.cache
def nodes() -> list[tuple[str, ast.AST]]:
    """Every node of every module of punie's, and of its plugin of Hydra's, with the module's file."""
    return [
        (path.relative_to(root).as_posix(), node)
        for root in (PACKAGE, PACKAGE.parent / "hydra_plugins")
        for path in sorted(root.rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text(), path))
    ]


def dotted(node: ast.expr) -> str:
    """A name as it is written: ``os.system``."""
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


def test_no_module_runs_what_it_reads() -> None:
    """No eval, exec, shell, unsafe YAML or instantiation in the package but the calls named here."""
    called = {(file, dotted(node.func)) for file, node in nodes() if isinstance(node, ast.Call)}
    assert {found for found in called if found[1] in RUNS_DATA} == ALLOWED.keys()
    assert ("evals/serve.py", "subprocess.Popen") in called  # the walk does see what is there


def test_no_module_reads_formats_that_can_run_code() -> None:
    """Nothing in the package imports pickle, its relatives, or a module that unpacks archives of files."""
    imported = {(file, node.module or "") for file, node in nodes() if isinstance(node, ast.ImportFrom)}
    plain = [(file, node) for file, node in nodes() if isinstance(node, ast.Import)]
    imported |= {(file, alias.name) for file, node in plain for alias in node.names}
    tops = {(file, name.split(".")[0]) for file, name in imported}
    assert {found for found in tops if found[1] in UNPACKS} == set()
    assert ("model/load.py", "mlx_lm") in tops


def test_no_call_hands_words_to_a_shell_or_trusts_a_model() -> None:
    """shell, allow_pickle and trust_remote_code are never anything but false."""
    given: set[tuple[object, str]] = set()
    for _, node in nodes():
        if isinstance(node, ast.keyword):
            given.add((node.arg, ast.unparse(node.value)))
        elif isinstance(node, ast.Dict):
            pairs = zip(node.keys, node.values, strict=True)
            given |= {(key.value, ast.unparse(each)) for key, each in pairs if isinstance(key, ast.Constant)}
    risky = {"shell", "allow_pickle", "trust_remote_code"}
    assert {found for found in given if found[0] in risky} == {("trust_remote_code", "False")}


def test_yaml_is_read_as_data(tmp_path: Path, marker: Path) -> None:
    """A YAML file that asks for an object is refused wherever punie reads YAML."""
    assert issubclass(config._LOADER, yaml.SafeLoader | getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    run = make_run(tmp_path / "run", records())
    planted = f"name: !!python/object/apply:pathlib.Path.touch [{marker}]\n"
    (run / "config.yaml").write_text(planted)
    with pytest.raises(PunieError, match=r"config\.yaml"):
        Run(run).require_finished()
    assert "could not determine a constructor" in repr(summarize([run]))
    assert not marker.exists()


@pytest.mark.parametrize(
    ("template", "found"),
    [
        ("{{ ''.__class__.__mro__[1].__subclasses__() }}", "unsafe"),
        ("{{ cycler.__init__.__globals__.os.system('touch ' ~ 'MARKER') }}", "unsafe"),
        ("{{ messages.append(1) }}", "unsafe"),
        ("{% include '/etc/passwd' %}", "loader"),
        ("{% for a in range(10 ** 9) %}{% endfor %}", "range"),
    ],
)
def test_a_chat_template_cannot_leave_its_sandbox(
    hostile: Path, marker: Path, template: str, found: str
) -> None:
    """A template, which is a program of the model's, reaches no object, file or module of this process."""
    (hostile / "chat_template.jinja").write_text(template.replace("MARKER", str(marker)))
    loaded = load.tokenizer(hostile)
    with pytest.raises((TemplateError, TypeError, OverflowError), match=found):
        Chat(loaded, FORMAT).prompt(Conversation([{"role": "user", "content": "hello"}]))
    assert not marker.exists()


@pytest.mark.parametrize(
    "given",
    [
        "url=http://me:hush-4f1c9d@host",
        "url=http://hush-4f1c9d@host/v1",
        "url='http://host/v1?key=hush-4f1c9d'",
        "api_key_env=hush-4f1c9d",
    ],
)
def test_a_password_in_a_url_is_refused_before_it_is_written(
    tmp_path: Path, given: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Neither a server's URL nor the name of its key has a place for a secret: no file is written."""
    monkeypatch.chdir(tmp_path)
    assert front_door(["eval.backend=server", f"eval.server.{given}"]) == 2
    said = "".join(capsys.readouterr())
    assert "api_key_env" in said
    assert SECRET not in said
    assert list(tmp_path.iterdir()) == []


def report_page(words: str) -> str:
    """report.html of a run whose names, prompts and answers are these words; categories are a fixed set."""
    samples = [
        Sample.model_validate({**row.plain(), "id": words + row.id, "prompt": words})
        for row in samples_of([("git", words), ("lsp", words)])
    ]
    made = dataclasses.replace(
        facts(samples),
        **dict.fromkeys(("name", "model", "data", "suite"), words),
        phase=Phase(id=words, title=words, hypothesis=words, references=[words], score="strict"),
        settings={words: words, "lora.save_every": 40},
    )
    return reports.html(made)


def summary_page(words: str, folder: Path) -> str:
    """summary.html of two runs whose names, categories, axes and errors are these words."""
    for number, status in enumerate(("finished", "finished", "failed")):
        run = summaries.make_run(
            folder / f"{number}{words[:9].replace('/', '')}",
            {words: 1.0, "x": 0.0},
            status=status,
            error=words,
            category=words,
            name=words,
            lora__seed=number,
            model={"name": f"{words}{number}"},
        )
        (run / "report.html").write_text("a report")
    return documents.render(summarize([folder], start=folder), "html", start=folder)


@pytest.mark.parametrize("kind", ["report", "summary"])
def test_a_page_is_under_a_policy_and_data_cannot_break_out(kind: str, tmp_path: Path) -> None:
    """No script but the page's own by its digest, no handler, no address: whatever words the data has."""
    unicode = HOSTILE.replace("\ud800", "")  # what YAML can hold
    page = Page(report_page(HOSTILE) if kind == "report" else summary_page(unicode, tmp_path / "runs"))
    policy = page.policy
    assert policy.keys() - {"script-src"} == {"default-src", "style-src", "base-uri", "form-action"}
    assert {policy[name] for name in ("default-src", "base-uri", "form-action")} == {"'none'"}
    scripts = page.all("script")
    if kind == "report":
        sha256 = hashlib.sha256(page.texts["script"][0].encode()).digest()
        assert policy["script-src"] == f"'sha256-{base64.b64encode(sha256).decode()}'"
    assert len(scripts) == (kind == "report")
    attributes = [(tag, name, value or "") for tag, each in page.tags for name, value in each.items()]
    assert [found for found in attributes if found[1].startswith("on")] == []
    addresses = [value for _, name, value in attributes if name in ADDRESSES]
    assert [value for value in addresses if re.match(r"(?!#)[^/]*:|//", value)] == []
    elements = {tag for tag, _ in page.tags}
    assert not elements & {"img", "iframe", "object", "embed", "base", "link", "image", "foreignobject"}
    calm = Page(report_page("calm") if kind == "report" else summary_page("calm", tmp_path / "calm"))
    assert elements - {"i"} == {tag for tag, _ in calm.tags} - {"i"}  # <i> shows a control character
    assert "window.hacked" in "".join(page.texts["body"])


@pytest.mark.parametrize(
    ("flags", "name"),
    [
        *([[], each] for each in ("../x", "a/../../x", "/tmp/x", "..", ".", "a//b", "a/", "", "a\\..\\x")),
        *([["-m"], each] for each in ("../x", "/tmp/x")),
    ],
)
def test_a_name_cannot_leave_the_folder_of_runs(
    flags: list[str], name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run's or sweep's name with .., or from the root, is refused, and nothing is left anywhere."""
    (tmp_path / "deep" / "work").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "deep" / "work")
    assert front_door([*flags, f"name='{name}'", "seed=0"]) == 2
    assert [path.name for path in tmp_path.rglob("*")] == ["deep", "work"]


def test_the_document_names_tests_that_exist() -> None:
    """Every test, file and module that SECURITY.md names is there."""
    root = PACKAGE.parent
    document = (root / "SECURITY.md").read_text("utf-8")
    tests = "".join(path.read_text("utf-8") for path in (root / "tests").rglob("test_*.py"))
    names = set(re.findall(r"`(test_\w+)`", document))
    assert len(names) > 20
    assert [name for name in sorted(names) if f"def {name}(" not in tests] == []
    paths = set(re.findall(r"`((?:tests/)?[\w/]+(?:\.py|/))`", document))
    assert [
        path for path in sorted(paths) if not any((base / path).exists() for base in (root, PACKAGE))
    ] == []
