"""What SECURITY.md promises of whole runs: secrets, a hostile model, and whom the server listens to."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from punie.evals.serve import serve
from punie.util.errors import PunieError
from tests.conftest import LEAST
from tests.hostile import AUTO_TOKENIZER, PLANTED, amend, plant
from tests.processes import Finished, punie

SECRETS = {
    name: f"planted-{number:02d}-c0ffee"
    for number, name in enumerate(
        (
            *("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "OPENAI_API_KEY", "ANTHROPIC_API_KEY", "WANDB_API_KEY"),
            *("AWS_SECRET_ACCESS_KEY", "AWS_ACCESS_KEY_ID", "GITHUB_TOKEN", "SSH_AUTH_SOCK", "MY_PASSWORD"),
        )
    )
}
PASSWORD = "planted-netrc-c0ffee"
PROXY = "planted-proxy-c0ffee"
MARK = b"c0ffee"


def holders(folder: Path) -> list[str]:
    """The files below a folder, by content or by name, in which something planted is."""
    return [
        path.relative_to(folder).as_posix()
        for path in sorted(folder.rglob("*"))
        if MARK in path.name.encode() or (path.is_file() and MARK in path.read_bytes())
    ]


@pytest.fixture(scope="module")
def secretive(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Callable[..., Finished]]:
    """A working folder, and its front door for a user whose environment and home are full of secrets."""
    home, cwd = tmp_path_factory.mktemp("home"), tmp_path_factory.mktemp("work")
    (home / ".netrc").write_text(f"default login me password {PASSWORD}\n")
    (home / ".netrc").chmod(0o600)
    (home / ".cache" / "huggingface").mkdir(parents=True)
    (home / ".cache" / "huggingface" / "token").write_text(SECRETS["HF_TOKEN"])
    proxy = f"http://me:{PROXY}@127.0.0.1:9"
    names = ("HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy")
    environment = SECRETS | dict.fromkeys(names, proxy)
    environment |= {"HOME": str(home), "HF_HUB_OFFLINE": "0", "PUNIE_DEBUG": "1"}
    environment |= dict.fromkeys(("NO_PROXY", "no_proxy"), "")
    fresh = {"name=whole", "name=hub"}  # what is read at import has to come from this environment
    return cwd, lambda *arguments: punie(*arguments, cwd=cwd, env=environment, new=bool(fresh & {*arguments}))


def test_secrets_reach_no_file_and_no_terminal(
    secretive: tuple[Path, Callable[..., Finished]],
) -> None:
    """After a run, a failed run, a sweep and every command that reads them, no planted secret is anywhere."""
    cwd, door = secretive
    said = [door(*LEAST, "name=whole")]
    run = said[0].run_directory
    said += [
        door("-m", *LEAST, "name=sweep", "eval.temperature=0"),
        door(*LEAST, "name=failed", "+lora.optimizer_config.eps=-1"),
        door(*LEAST, "name=${oc.env:HF_TOKEN}"),
        door(*LEAST, "name=served", "eval.backend=server"),
        door(
            *LEAST,
            "name=keyed",
            "eval.backend=server",
            "eval.server.url=http://127.0.0.1:9",
            "eval.server.api_key_env=OPENAI_API_KEY",
            "eval.server.retries=0",
        ),
        door(*LEAST, "name=hub", "model=local", "model.repo=owner/none"),  # by the proxy, where nobody is
        door("doctor"),
        door("plan", *LEAST),
        door("show", str(run)),
        door("diff", str(run), "eval.temperature=0"),
        door("summarize", "outputs", "--format", "html"),
        door("store", "ls"),
        door("export", str(run), "model"),
    ]
    codes = [done.code for done in said]
    assert codes == [0, 0, 1, 2, 0, 1, 1, 0, 0, 0, 1, 0, 0, 0], [done.err for done in said]
    assert len(list(cwd.rglob("provenance.json"))) == 6
    assert holders(cwd) == []
    assert [(done.out, done.err) for done in said if MARK.decode() in done.out + done.err] == []


def test_the_search_finds_what_is_planted(tmp_path: Path) -> None:
    """The search of the test above does see a secret in a file's content, and in a file's name."""
    (tmp_path / "deep" / "c0ffee").mkdir(parents=True)
    (tmp_path / "deep" / "file").write_bytes(b"\x00" + SECRETS["HF_TOKEN"].encode())
    assert holders(tmp_path) == ["deep/c0ffee", "deep/file"]


@pytest.fixture
def hostile(tmp_path: Path) -> tuple[Path, Path]:
    """The tiny model with code and pickles beside it, and the file that exists once one of them has run."""
    folder = plant(tmp_path / "hostile", tmp_path / "executed")
    amend(folder / "tokenizer_config.json", auto_map=AUTO_TOKENIZER)
    return folder, tmp_path / "executed"


def test_a_whole_run_with_a_hostile_model_executes_nothing_of_it(
    hostile: tuple[Path, Path], tmp_path: Path
) -> None:
    """Trained, fused, quantized, evaluated and exported, a folder full of code has run none of it."""
    folder, marker = hostile
    work = tmp_path / "work"
    work.mkdir()
    overrides = ("model=local", f"model.path={folder}", "lora.num_layers=4")
    done = punie(*LEAST, *overrides, cwd=work)
    assert done.code == 0, done.err
    exported = punie("export", str(done.run_directory), "model", cwd=work)
    assert exported.code == 0, exported.err
    assert not marker.exists()
    assert {path.suffix for path in (work / "model").iterdir()} <= {".json", ".jinja", ".safetensors", ".md"}
    named = json.loads((work / "model" / "config.json").read_text())
    assert not {"auto_map", "model_file"} & named.keys()


def test_the_server_of_a_hostile_model_executes_nothing_of_it(
    hostile: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """mlx_lm.server, started from within the folder, runs none of its files; it serves the folder, or refuses
    it, which is an error with its own words, and leaves nothing running."""
    folder, marker = hostile
    monkeypatch.chdir(folder)
    with serve(folder, log=tmp_path / "server.log", float32=True, timeout=120):
        assert not marker.exists()
    amend(folder / "config.json", model_file=PLANTED)
    before = set(psutil.Process().children(recursive=True))
    with (
        pytest.raises(PunieError, match="cannot generate with the model") as caught,
        serve(folder, log=tmp_path / "refused.log", float32=True, timeout=120),
    ):
        pytest.fail("it was served")
    assert not marker.exists()
    assert str(tmp_path / "refused.log") in str(caught.value.where)
    assert re.search("ERROR.*Mlx-lm cannot load the model", str(caught.value.found)), caught.value
    assert set(psutil.Process().children(recursive=True)) <= before
