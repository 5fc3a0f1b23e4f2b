"""The command as a whole: help, version, start-up, exit codes, the demo, and commands that other portions provide."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import orjson
import pytest
import typer
from typer.main import get_command

from dayfly.engine.cli import ExitCode, app
from dayfly.engine.cli.exits import guarded
from dayfly.engine.cli.story import SCENES
from dayfly.engine.errors import RunError
from dayfly.engine.warmup import WarmReport

from .support import dayfly

SCRIPT = Path(sys.executable).with_name("dayfly")


def commands(command: object, name: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], object]]:
    """Every command of the tree with its words."""
    children = getattr(command, "commands", {})
    yield name, command
    for child, found in children.items():
        yield from commands(found, (*name, child))


TREE = dict(commands(get_command(app)))


@pytest.mark.parametrize("words", TREE, ids=" ".join)
def test_help_tells_every_option_and_argument(words: tuple[str, ...]) -> None:
    result = dayfly(*words, "--help")
    assert result.exit_code == 0
    for parameter in TREE[words].params:  # type: ignore[attr-defined]
        if parameter.param_type_name == "option":
            assert max(parameter.opts, key=len) in result.stdout
        else:
            assert (parameter.metavar or parameter.name).strip("[].").split("]")[0] in result.stdout
        assert getattr(parameter, "help", "x")


@pytest.mark.parametrize(
    "words", [words for words, found in TREE.items() if not hasattr(found, "commands")], ids=" ".join
)
def test_every_command_shows_an_example_of_itself(words: tuple[str, ...]) -> None:
    assert f"Example: dayfly {' '.join(words)}" in dayfly(*words, "--help").stdout


def test_there_is_no_command_that_does_nothing_yet() -> None:
    leaves = {" ".join(words) for words, found in TREE.items() if words and not hasattr(found, "commands")}
    assert leaves == {
        "run", "generate", "demo", "explain", "health", "verify", "warm", "receipt verify", "audit verify", "policy check",
        "policy schema", "bench latency", "bench realtime", "bench all", "sandbox query", "sandbox preview", "sandbox explain", "sandbox budget",
        "sandbox account", "keys init", "keys status", "keys rotate", "keys retire", "keys reseal", "keys public",
        "store init", "store status", "store check", "backup", "restore", "erase", "certificate verify",
        "federate keys server", "federate keys channel", "federate trust", "federate server", "federate client", "federate run",
        "federate local", "federate demo", "federate protocols",
    }  # fmt: skip


def test_the_exit_codes_are_told_by_the_help() -> None:
    told = dayfly("--help").stdout
    for code in ExitCode:
        assert f"{code.value} " in told.partition("Exit status")[2]


@pytest.mark.parametrize("arguments", [["--version"], ["--help"], ["run", "--help"]])
def test_asking_for_version_or_help_loads_neither_numpy_nor_numba(arguments: list[str]) -> None:
    code = (
        "import sys\nfrom dayfly.engine.cli import app\n"
        "try:\n    app(sys.argv[1:])\nexcept SystemExit as end:\n    assert not end.code\n"
        "print(sorted({'numpy', 'numba', 'pyarrow', 'cryptography'} & set(sys.modules)))"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True
    )
    assert ended.stdout.splitlines()[-1] == "[]"


def test_the_installed_script_tells_its_version() -> None:
    ended = subprocess.run([SCRIPT, "--version"], capture_output=True, text=True, check=True)
    assert ended.stdout.split()[0] == "dayfly"


def test_a_mistyped_command_is_status_2() -> None:
    assert dayfly("rum").exit_code == 2


# --- errors -------------------------------------------------------------------------------------------------------------


def ending(error: BaseException) -> int:
    @guarded
    def command() -> None:
        raise error

    with pytest.raises(typer.Exit) as end:
        command()
    return int(end.value.exit_code)


def test_errors_become_exit_codes_and_defects_stay_visible(capsys: pytest.CaptureFixture[str]) -> None:
    assert ending(RunError("out='x' must be free; choose another")) == ExitCode.BAD_INPUT
    assert "dayfly: out='x' must be free; choose another" in capsys.readouterr().err
    assert ending(PermissionError(13, "Permission denied", "secret.pem")) == ExitCode.BAD_INPUT
    assert "file=secret.pem must be usable: Permission denied" in capsys.readouterr().err
    assert ending(KeyboardInterrupt()) == ExitCode.INTERRUPTED
    assert "interrupted; nothing was written" in capsys.readouterr().err
    with pytest.raises(ZeroDivisionError):
        guarded(lambda: 1 // 0)()


# --- warm and bench -----------------------------------------------------------------------------------------------------


def test_warm_tells_what_it_did(monkeypatch: pytest.MonkeyPatch) -> None:
    report = WarmReport(
        kernels=40, compiled=3, loaded=37, idle=(), seconds=1.5, jit_enabled=True, cache_folder="cache"
    )
    monkeypatch.setattr("dayfly.engine.warmup.warm_up", lambda: report)
    assert orjson.loads(dayfly("warm", "--json").stdout)["compiled"] == 3
    assert dayfly("warm").stdout.strip() == str(report)


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """Stands for the bench portion; records how it was called, and says that a bar was missed."""
    calls: list[object] = []

    def main(*arguments: object) -> int:
        calls.append(arguments)
        return 1

    for name in ("dayfly.bench.latency", "dayfly.bench.__main__"):
        module = ModuleType(name)
        module.main = main  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: name)
    return calls


def test_bench_hands_everything_to_the_bench_portion_and_its_status_back(
    bench: list[object], tmp_path: Path
) -> None:
    assert dayfly("bench", "latency", "--rate", 5000, "--seconds", 3, "--target-ms", 150).exit_code == 1
    assert dayfly("bench", "realtime", "--quick", "--json", tmp_path / "rows.json").exit_code == 1
    assert dayfly("bench", "all").exit_code == 1
    assert bench == [
        (5000.0, 3.0, 150.0),
        (["realtime", "--quick", "--json", str(tmp_path / "rows.json")],),
        (["all"],),
    ]


def test_without_the_bench_portion_the_commands_say_so_with_status_3(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    result = dayfly("bench", "realtime")
    assert result.exit_code == ExitCode.MISSING_PART
    assert "install Dayfly with its bench portion" in result.output


# --- the demo -----------------------------------------------------------------------------------------------------------


def test_the_demo_tells_every_scene_and_can_be_repeated_in_its_folder(tmp_path: Path) -> None:
    out = tmp_path / "demo"
    told = dayfly("demo", "--out", out)
    assert told.exit_code == 0, told.output
    for words in (
        "Their consent covers it",
        "refuses it",
        "withdraws consent",
        "deletion receipt holds",
        "What you saw",
    ):
        assert words in told.stdout
    again = dayfly("demo", "--out", out, "--json")
    assert again.exit_code == 0
    assert tuple(orjson.loads(again.stdout)["scenes"]) == SCENES
    (command,) = [
        line.split() for line in told.stdout.splitlines() if line.strip().startswith("dayfly receipt")
    ]
    assert command[:3] == ["dayfly", "receipt", "verify"]


def test_the_commands_that_the_demo_proposes_work(tmp_path: Path) -> None:
    told = dayfly("demo", "--out", tmp_path / "demo")
    proposed = [line.split()[1:] for line in told.stdout.splitlines() if line.startswith("  dayfly ")]
    assert len(proposed) == 3
    assert [dayfly(*arguments).exit_code for arguments in proposed] == [0, 0, 0]


def test_the_demo_leaves_a_folder_of_somebody_else_alone(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("keep me")
    result = dayfly("demo", "--out", tmp_path)
    assert result.exit_code == 2
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_a_demo_without_all_its_scenes_fails_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dayfly.engine.cli.story.SHIPPING", "no-such-trigger")
    result = dayfly("demo", "--out", tmp_path / "demo")
    assert result.exit_code == ExitCode.NO
    assert "every scene is told (missing: recalled), and it does not; please report this" in result.output
    assert list(tmp_path.iterdir()) == []
