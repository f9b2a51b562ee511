"""What SECURITY.md promises of whole runs: secrets, a hostile model, and whom the server listens to."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from punie.evals.serve import serve
from punie.util.errors import PunieError
from punie.util.paths import resource
from tests.conftest import QUICK
from tests.hostile import AUTO_TOKENIZER, PLANTED, amend, plant
from tests.processes import Finished, punie

TINY = resource("data/models/tiny")
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
    said = [door(*QUICK, "name=whole")]
    run = said[0].run_directory
    said += [
        door("-m", *QUICK, "name=sweep", "eval.temperature=0,0.7"),
        door(*QUICK, "name=failed", "+lora.optimizer_config.nonsense=1"),
        door(*QUICK, "name=${oc.env:HF_TOKEN}"),
        door(*QUICK, "name=served", "eval.backend=server"),
        door(*QUICK, "name=hub", "model=local", "model.repo=owner/none"),  # by the proxy, where nobody is
        door("doctor"),
        door("plan", *QUICK),
        door("show", str(run)),
        door("diff", str(run), "eval.temperature=0"),
        door("summarize", "outputs", "--format", "html"),
        door("store", "ls"),
        door("export", str(run), "model"),
    ]
    codes = [done.code for done in said]
    assert codes == [0, 0, 1, 2, 0, 1, 0, 0, 0, 1, 0, 0, 0], [done.err for done in said]
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
    done = punie(*QUICK, *overrides, cwd=work)
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
    """mlx_lm.server, started from within the folder, serves or refuses it, and runs none of its files."""
    folder, marker = hostile
    monkeypatch.chdir(folder)
    with serve(folder, log=tmp_path / "server.log", float32=True, timeout=120):
        assert not marker.exists()
    amend(folder / "config.json", model_file=PLANTED)
    with (
        pytest.raises(PunieError, match="cannot generate"),
        serve(folder, log=tmp_path / "refused.log", float32=True, timeout=120),
    ):
        pytest.fail("it was served")
    assert not marker.exists()


def test_the_server_listens_to_this_machine_alone(tmp_path: Path) -> None:
    """The server that an evaluation starts is bound to 127.0.0.1, and no process of it to another address."""
    with serve(TINY, log=tmp_path / "server.log", float32=True, timeout=120) as server:
        leader = psutil.Process(server.process.pid)
        bound = {
            connection.laddr.ip
            for process in (leader, *leader.children(recursive=True))
            for connection in process.net_connections(kind="inet")
            if connection.status == psutil.CONN_LISTEN
        }
    assert bound == {"127.0.0.1"}
