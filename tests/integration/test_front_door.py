"""The command line as a person meets it: quick, and clear when something is wrong."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from punie.__main__ import main
from punie.util.paths import resource
from tests.conftest import LEAST, QUICK, World, read_json
from tests.processes import Finished, punie

HEAVY = ("mlx", "mlx_lm", "transformers", "numpy", "scipy")


@pytest.fixture
def here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., Finished]:
    """The command line within this process, in an empty folder."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setattr(sys, "argv", ["punie"])

    def run(*arguments: str) -> Finished:
        code = main(list(arguments))
        return Finished(code, *capsys.readouterr())

    return run


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["--cfg", "job"],
        ["plan"],
        ["plan", "+phase=45", "model=tiny"],
        ["plan", "-m", "+phase=46", "model=tiny"],
        ["store", "ls"],
        ["diff", "44", "+phase=44"],
    ],
    ids=" ".join,
)
def test_looking_is_quick(arguments: list[str], tmp_path: Path) -> None:
    """Help, config, plan and diff of phases import no library that computes, but the statistics of a phase's
    plan; help and plan no pydantic."""
    slow = {*HEAVY, "pydantic"} if arguments in (["--help"], ["plan"]) else {*HEAVY}
    slow -= {"numpy", "scipy"} if "plan" in arguments[:1] and arguments[1:] else set()
    code = (
        "import sys\nfrom punie.__main__ import main\n"
        f"code = main({arguments!r})\n"
        f"sys.exit(code or ' '.join(sys.modules.keys() & {slow!r}) or None)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["model=nope"], ["model=nope", "tiny"]),
        (["+lora.foo=1"], ["lora.foo"]),
        (["seed=abc"], ["seed=abc", "an integer"]),
        (["lora.num_layers=9"], ["lora.num_layers", "at most 4"]),
        (["eval.suite=nope"], ["eval.suite=nope", "core27"]),
        (["data=jsonl", "data.path=nowhere"], ["data.path=nowhere", "data=code_mode"]),
        (["data=jsonl", "data.path=nowhere", "eval.suite=nope"], ["1. ", "2. ", "nowhere", "nope"]),
        (["model=local", "model.path=nowhere"], ["model.path=nowhere"]),
        (["plan", "model=nope"], ["model=nope"]),
        (["--cfg", "job", "phase.baseline.source=words"], ["no phase is selected"]),
        (["-m", "lora.seed=range(1,10000000000)"], ["lora.seed=range(1,10000000000)", "10,000"]),
        (["-m", f"name={'1' * 5000}"], ["name=111", "digits"]),
        (["data", "check", "nowhere"], ["nowhere"]),
    ],
    ids=lambda value: " ".join(value)[:60] if isinstance(value, list) else None,
)
def test_bad_input_ends_in_a_message(
    arguments: list[str], words: list[str], here: Callable[..., Finished]
) -> None:
    """Each mistake gives one message that names it, an exit code that is not 0, and no traceback."""
    done = here(*arguments)
    assert done.code != 0
    assert [word for word in words if word not in done.err] == []
    assert "Traceback" not in done.err
    assert "Error executing job" not in done.err


@pytest.mark.parametrize("how", [["-m"], ["--cfg", "job"], ["plan", "-m"]], ids=" ".join)
def test_a_preset_that_hydra_cannot_read_ends_in_a_message(
    how: list[str], tmp_path: Path, here: Callable[..., Finished]
) -> None:
    """A sweep and ``--cfg``, which Hydra composes, tell of a faulty file of one's own without a traceback."""
    (tmp_path / "eval").mkdir()
    (tmp_path / "eval" / "mine.yaml").write_text("defaults:\n  - 50\n")
    done = here(*how, f"hydra.searchpath=[{tmp_path}]", "eval=mine")
    assert done.code == 2
    assert "Unsupported type in defaults : int" in done.err
    assert "Traceback" not in done.err


@pytest.mark.parametrize("mistake", ["name=../../evil", "lora.rank=0", "-m lora.rank=8,0 seed=0,1"])
def test_a_config_error_leaves_no_folder(mistake: str, tmp_path: Path, here: Callable[..., Finished]) -> None:
    """A config that cannot be used is refused before any folder is made, inside outputs or out of it; so is a
    sweep of which one job cannot be composed."""
    assert here(*mistake.split()).code == 2
    assert list(tmp_path.rglob("*")) == [tmp_path / "here"]


_SERVER = ("eval.target=base", "eval.lock.temperatures=[]", "eval.backend=server")


@pytest.mark.parametrize(
    ("overrides", "code", "words"),
    [
        (["lora.max_seq_length=24"], 1, ["train.jsonl:1", "lora.max_seq_length"]),
        (["lora.batch_size=5000"], 1, ["lora.batch_size", "at most 64"]),
        (["lora.num_layers=5"], 1, ["lora.num_layers", "at most 4"]),
        (
            ["lora.keys=[q_proj]"],
            1,
            ["No layer of the model is adapted", "self_attn.q_proj instead of q_proj"],
        ),
        (
            ["lora.workers=2", "lora.optimizer=sgd", "lora.learning_rate=1e20"],
            1,
            ["A worker of the training failed", "not finite at iteration"],
        ),
        (
            ["lora.select=best_eval", "lora.select_suite=core27", "eval.suite=core27"],
            1,
            ["lora.select_suite"],
        ),
        (["store.dir=FILE/store"], 1, ["FILE"]),
        (["hydra.run.dir=FILE/run"], 1, ["FILE"]),
        (["eval.repeats=2", "eval.temperature=0"], 2, ["same response"]),
        (["eval.targets=[base,adapter]"], 2, ["eval.target"]),
        (["eval.targets=[base,other]"], 2, ["one of base, adapter, quantized"]),
        (["eval.server.url=http://127.0.0.1:1"], 2, ["eval.backend=server"]),
        (["eval.server.api=chat"], 2, ["eval.backend=server"]),
        ([*_SERVER, "eval.server.api_key_env=NO_SUCH_KEY"], 2, ["no server is named"]),
        (
            [*_SERVER, "eval.server.url=http://127.0.0.1:1", "eval.server.api_key_env=NO_SUCH_KEY"],
            2,
            ["api_key_env=NO_SUCH_KEY", "not set"],
        ),
        ([*_SERVER, "eval.server.url=file:///etc/passwd"], 2, ["URL"]),
        ([*_SERVER, "eval.server.url=http://:80"], 2, ["eval.server.url=http://:80"]),
        ([*_SERVER, "eval.server.url=http://127.0.0.1:1", "eval.server.retries=0"], 1, ["does not answer"]),
    ],
    ids=lambda value: " ".join(value)[:60] if isinstance(value, list) else None,
)
def test_what_cannot_run_is_refused_before_time_is_spent(
    overrides: list[str], code: int, words: list[str], world: World, tmp_path: Path
) -> None:
    """What contradicts itself, the data, the model or the machine ends in one message, and nothing is
    trained."""
    (tmp_path / "file").write_text("")
    where = str(tmp_path / "file")
    trained = sorted((world.cwd / "outputs/store/train").iterdir())
    done = punie(*QUICK, *(each.replace("FILE", where) for each in overrides), cwd=world.cwd)
    assert done.code == code, done.err
    assert [word for word in words if word.replace("FILE", where) not in done.err] == []
    assert "Traceback" not in done.err
    assert sorted((world.cwd / "outputs/store/train").iterdir()) == trained


@pytest.mark.skipif(sys.platform == "darwin", reason="Metal computes them")
def test_what_the_cpu_cannot_compute_is_refused(world: World) -> None:
    """Experts in half precision cannot be computed on a CPU: reported before training, with the remedy."""
    done = punie(*QUICK, "runtime.cpu_float32=false", cwd=world.cwd)
    assert done.code == 1
    assert "runtime.cpu_float32=true" in done.err


def test_a_model_that_is_nowhere_names_the_way_out(tmp_path: Path) -> None:
    """A hub model that is neither cached nor reachable: what to run instead."""
    done = punie(
        "model=qwen3_8b",
        "model.size_gb=0.1",
        cwd=tmp_path,
        env={"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path)},
    )
    assert done.code == 1
    assert "hf download mlx-community/Qwen3-8B-4bit" in done.err
    assert "model=tiny" in done.err
    assert "Traceback" not in done.err


def test_a_model_that_does_not_fit_is_refused_before_it_is_fetched(tmp_path: Path) -> None:
    """The 30B model in float32 does not fit a CPU machine of this size; the message says what would."""
    if sys.platform == "darwin":
        pytest.skip("only a CPU machine computes in float32")
    done = punie("+phase=43a", "runtime.cpu_float32=true", cwd=tmp_path, env={"HF_HOME": str(tmp_path)})
    assert done.code == 1
    assert "memory" in done.err


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A real filesystem with room for what a short run leaves, and not for its checkpoints on the way."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2600k", "tmpfs", disk], capture_output=True)
    if mounted.returncode != 0:
        pytest.skip("may not mount a small filesystem here")
    yield disk
    subprocess.run(["umount", "-l", disk], check=True)


@pytest.mark.skipif(sys.platform != "linux", reason="mounts a tmpfs")
def test_a_full_disk_loses_nothing(small_disk: Path) -> None:
    """The disk fills up in training: a message with what helps, and what was finished before is whole."""
    done = punie(*QUICK, cwd=small_disk)
    assert done.code == 1
    assert "No space left on device" in done.err
    assert "punie store gc" in done.err
    assert "Traceback" not in done.err
    assert not list(small_disk.glob("outputs/store/train/*"))
    assert punie("store", "verify", cwd=small_disk).code == 0


@pytest.mark.skipif(sys.platform != "linux", reason="mounts a tmpfs")
def test_a_read_only_folder_is_said(small_disk: Path) -> None:
    """Outputs that cannot be written end in a message, not in a traceback."""
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    done = punie(*QUICK, cwd=small_disk)
    assert done.code == 1
    assert "Read-only file system" in done.err
    assert "Traceback" not in done.err


def test_a_debug_switch_shows_the_traceback(tmp_path: Path) -> None:
    """PUNIE_DEBUG=1 adds the traceback to the message."""
    done = punie("model=nope", cwd=tmp_path, env={"PUNIE_DEBUG": "1"})
    assert "Traceback" in done.err


def test_a_failed_run_says_so_in_its_directory(tmp_path: Path) -> None:
    """status.json of a run that could not start holds ``failed`` and the message."""
    punie("eval.suite=nope", cwd=tmp_path)
    (status,) = tmp_path.glob("outputs/runs/tiny/*/status.json")
    assert read_json(status)["status"] == "failed"
    assert "nope" in read_json(status)["error"]


def test_a_run_touches_no_network(tmp_path: Path) -> None:
    """With every connection refused by the process itself, a run of every stage goes through."""
    code = (
        "import socket, sys\n"
        "def refuse(*a, **k): raise SystemExit('the network was used')\n"
        "socket.socket.connect = socket.socket.connect_ex = socket.getaddrinfo = refuse\n"
        "from punie.__main__ import main\n"
        f"sys.exit(main({list(LEAST)!r}))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_model_of_the_hub_cache_is_used_in_place(world: World, tmp_path: Path) -> None:
    """The tiny model in the hub's cache layout: found by repo and branch, known as the same content."""
    commit, home = "d" * 40, tmp_path / "hub" / "models--someone--tiny"
    snapshot = home / "snapshots" / commit
    snapshot.mkdir(parents=True)
    (home / "refs").mkdir()
    (home / "refs" / "main").write_text(commit)
    shutil.copytree(resource("data/models/tiny"), home / "blobs")
    for path in (home / "blobs").iterdir():
        (snapshot / path.name).symlink_to(f"../../blobs/{path.name}")
    done = punie(
        *QUICK, "model.embedded=null", "model.repo=someone/tiny",
        cwd=world.cwd, env={"HF_HUB_CACHE": str(tmp_path / "hub"), "HF_HUB_OFFLINE": "1"},
    )  # fmt: skip
    assert done.code == 0, done.err
    assert " run " not in done.err
