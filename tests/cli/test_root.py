"""The `outrider` command: what it lists, what it says when something fails, and how it exits."""

import json
import os
import signal
import subprocess
import sys
import tomllib
from collections.abc import Callable
from importlib.metadata import EntryPoint
from pathlib import Path
from types import ModuleType

import click
import pytest

from outrider import cli
from outrider_common.cli_options import load, settings_options
from outrider_common.config_loading import LoadedSettings
from outrider_common.errors import CapacityError, ConfigError, OutriderError
from outrider_common.settings.edge import EdgeSettings
from outrider_common.settings.models import ModelSettings
from outrider_common.settings.sampling import SamplingSettings
from outrider_common.settings.verifier import VerifierSettings

Install = Callable[..., None]


pytestmark = pytest.mark.usefixtures("restored_logging")


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for variable in [name for name in os.environ if name.startswith("OUTRIDER_")]:
        monkeypatch.delenv(variable)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "no-config"))


@pytest.fixture
def entries(monkeypatch: pytest.MonkeyPatch) -> list[EntryPoint]:
    """The entry points that the command finds instead of the real ones."""
    fakes: list[EntryPoint] = []
    monkeypatch.setattr(cli, "entry_points", lambda group: fakes)
    return fakes


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch, entries: list[EntryPoint]) -> Install:
    """Make functions into commands, as if installed; `needs` is the extra behind the command."""
    module = ModuleType("fake_commands")
    monkeypatch.setitem(sys.modules, "fake_commands", module)

    def add(name: str, command: click.Command | Callable[[], None], needs: str = "") -> None:
        if not isinstance(command, click.Command):
            command = click.command(name)(command)
        setattr(module, name, command)
        extra = f" [{needs}]" if needs else ""
        entries.append(EntryPoint(name, f"fake_commands:{name}{extra}", cli.COMMAND_GROUP))

    return add


@pytest.fixture
def _no_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli, "find_spec", lambda name: None if name == "torch" else object())


def failing(error: BaseException) -> Callable[[], None]:
    def fail() -> None:
        """Fail."""
        raise error

    return fail


def harmless() -> None:
    """Do nothing."""


# Finding the commands.


def test_help_lists_every_command_with_its_first_sentence(
    install: Install, capsys: pytest.CaptureFixture[str]
) -> None:
    install("here", harmless)
    assert cli.run(["--help"]) == 0
    assert "  here  Do nothing." in capsys.readouterr().out


def test_the_real_commands_are_found() -> None:
    assert {"config", "edge", "models", "verifier"} <= set(cli._entries())


@pytest.mark.usefixtures("_no_torch")
def test_a_command_whose_extra_is_missing_is_listed_apart(
    install: Install, capsys: pytest.CaptureFixture[str]
) -> None:
    install("here", harmless)
    install("far", harmless, needs="cloud")
    cli.run(["--help"])
    commands, _, absent = capsys.readouterr().out.partition("Not installed:")
    assert "here" in commands
    assert "far" not in commands.partition("Commands:")[2]
    assert "far  pip install 'outrider[cloud]'" in absent


@pytest.mark.usefixtures("_no_torch")
@pytest.mark.parametrize("arguments", [[], ["--help"], ["serve", "--port", "1"], ["--", "-x"]])
def test_a_command_whose_extra_is_missing_says_which_one_to_install(
    install: Install, capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    install("far", harmless, needs="cloud")
    assert cli.run(["far", *arguments]) == 2
    assert capsys.readouterr().err == (
        "outrider: error: 'outrider far' needs the extra cloud, which is not installed: "
        "run pip install 'outrider[cloud]'.\n"
    )


def test_a_command_that_cannot_be_imported_does_not_take_the_others_with_it(
    install: Install, entries: list[EntryPoint], capsys: pytest.CaptureFixture[str]
) -> None:
    install("here", harmless)
    entries.append(EntryPoint("broken", "no_such_module_at_all:command", cli.COMMAND_GROUP))
    assert cli.run(["--help"]) == 0
    assert "no_such_module_at_all" in capsys.readouterr().out
    assert cli.run(["here"]) == 0
    assert cli.run(["broken"]) == 1
    assert "no_such_module_at_all" in capsys.readouterr().err


# Errors.


@pytest.mark.parametrize(
    ("error", "status"), [(CapacityError("It is full."), 1), (ConfigError("It is wrong."), 2)]
)
def test_an_error_is_one_sentence_and_a_status(
    install: Install, capsys: pytest.CaptureFixture[str], error: OutriderError, status: int
) -> None:
    install("fail", failing(error))
    assert cli.run(["fail"]) == status
    assert capsys.readouterr().err == f"outrider: error: {error}\n"


def test_an_unexpected_error_is_one_sentence_that_says_how_to_see_more(
    install: Install, capsys: pytest.CaptureFixture[str]
) -> None:
    install("fail", failing(ZeroDivisionError("by\nzero")))
    assert cli.run(["fail"]) == 1
    message = capsys.readouterr().err
    assert message.count("\n") == 1
    assert "ZeroDivisionError: by " in message
    assert "outrider --debug" in message


def test_with_debug_the_traceback_comes_before_the_sentence(
    install: Install, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    install("fail", failing(CapacityError("It is full.")))
    cli.run(["--debug", "fail"])
    with_flag = capsys.readouterr().err
    monkeypatch.setenv("OUTRIDER_LOG_LEVEL", "debug")
    cli.run(["fail"])
    with_variable = capsys.readouterr().err
    for message in (with_flag, with_variable):
        assert message.startswith("Traceback (most recent call last)")
        assert message.endswith("outrider: error: It is full.\n")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nonsense"], "No such command 'nonsense'"),
        (["config", "show", "--format", "xml"], "Try 'outrider config show --help'."),
        (["--nonsense"], "No such option"),
    ],
)
def test_wrong_use_is_one_sentence_and_status_2(
    capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    assert cli.run(arguments) == 2
    message = capsys.readouterr().err
    assert message.startswith("outrider: error: ")
    assert message.count("\n") == 1
    assert said in message


def test_without_arguments_the_help_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run([]) == 2
    assert "Usage: outrider" in capsys.readouterr().err


def test_an_interrupt_is_quiet(install: Install, capsys: pytest.CaptureFixture[str]) -> None:
    install("fail", failing(KeyboardInterrupt()))
    assert cli.run(["fail"]) == 130
    assert capsys.readouterr().err.strip() == ""


# As a process.


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def outrider_doing(statement: str) -> list[str]:
    """A process like `outrider it`, where the command `it` does what `statement` says."""
    return python(
        "import sys, time\n"
        "from outrider import cli\n"
        "@cli.root.command('it')\n"
        "def it():\n"
        f"    {statement}\n"
        "cli.CommandGroup.get_command = lambda self, ctx, name: it\n"
        "sys.argv = ['outrider', 'it']\n"
        "cli.main()\n"
    )


def test_ctrl_c_ends_the_process_quietly_with_status_130() -> None:
    # A shell starts background jobs with interrupts ignored, and children inherit that.
    heed = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"
    waiting = outrider_doing(f"{heed}; print('waiting', flush=True); time.sleep(60)")
    with subprocess.Popen(waiting, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"waiting\n"
        process.send_signal(signal.SIGINT)
        _, message = process.communicate()
    assert process.returncode == 130
    assert message.strip() == b""


@pytest.mark.parametrize(
    "command",
    [
        [sys.executable, "-m", "outrider", "config", "show"],
        outrider_doing("sys.stdout.write('still in the buffer when the command has ended')"),
    ],
    ids=["written at once", "written at the end"],
)
def test_a_reader_that_goes_away_is_no_error(
    command: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PYTHONUNBUFFERED", raising=False)
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "wb") as output:
        result = subprocess.run(command, stdout=output, stderr=subprocess.PIPE, check=False)
    assert result.returncode == 1
    assert result.stderr == b""


def test_the_version_is_that_of_the_distribution() -> None:
    result = subprocess.run(
        [sys.executable, "-m", "outrider", "--version"], capture_output=True, text=True, check=True
    )
    assert result.stdout == "outrider 0.1.0\n"


def test_help_imports_no_model_runtime_and_no_grpc() -> None:
    code = (
        "import sys\n"
        "from outrider import cli\n"
        "assert cli.run(['--help']) == 0\n"
        "heavy = {'torch', 'transformers', 'onnxruntime', 'onnx', 'grpc'}\n"
        "print('imported:', sorted(heavy & set(sys.modules)))\n"
    )
    result = subprocess.run(python(code), capture_output=True, text=True, check=True)
    assert result.stdout.endswith("imported: []\n")


# `outrider config show`.


def shown(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert cli.run([*arguments]) == 0
    return capsys.readouterr().out


def test_config_show_says_where_each_value_came_from(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "here.toml"
    file.write_text("[edge]\nmax_depth = 3\n")
    monkeypatch.setenv("OUTRIDER_VERIFIER_PORT", "1")
    lines = shown(capsys, "--config", str(file), "config", "show").splitlines()
    rows = {line.split()[0]: line.split()[1:] for line in lines}
    assert rows["verifier.port"] == ["1", "OUTRIDER_VERIFIER_PORT"]
    assert rows["edge.max_depth"] == ["3", str(file)]
    assert rows["edge.bundle"] == ["smollm2-135m-int8", "default"]


def test_config_show_can_be_read_by_programs(capsys: pytest.CaptureFixture[str]) -> None:
    document = json.loads(shown(capsys, "config", "show", "--format", "json"))
    assert document["verifier"]["port"] == {"value": 7411, "origin": "default"}
    assert document["models"]["cache_dir"] == {"value": None, "origin": "default"}


@pytest.mark.parametrize("model", ["smollm2-135m", 'a "quoted" \\ näme', "\x7f\t"])
def test_what_config_show_prints_as_toml_is_a_configuration_file(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    model: str,
) -> None:
    monkeypatch.setenv("OUTRIDER_VERIFIER_MODEL", model)
    printed = shown(capsys, "config", "show", "--format", "toml")
    monkeypatch.delenv("OUTRIDER_VERIFIER_MODEL")
    assert tomllib.loads(printed)["verifier"]["model"] == model
    file = tmp_path / "printed.toml"
    file.write_text(printed, encoding="utf-8")
    again = shown(capsys, "config", "show", "--format", "toml", "--config", str(file))
    assert again == printed


# Options made from settings.


def captured(*sections: type) -> tuple[click.Command, list[LoadedSettings]]:
    seen: list[LoadedSettings] = []

    @click.command("it")
    @settings_options(*sections)
    def it(loaded: LoadedSettings) -> None:
        seen.append(loaded)

    return it, seen


def test_an_option_wins_and_is_named_as_the_origin(install: Install) -> None:
    command, seen = captured(EdgeSettings)
    install("it", command)
    assert cli.run(["it", "--max-depth", "5", "--no-allow-spinning"]) == 0
    assert seen[0].settings.edge.max_depth == 5
    assert seen[0].settings.edge.allow_spinning is False
    assert seen[0].origin["edge.max_depth"] == "--max-depth"


def test_options_of_several_sections_go_together(install: Install) -> None:
    command, seen = captured(EdgeSettings, SamplingSettings, ModelSettings)
    install("it", command)
    assert cli.run(["it", "--max-depth", "3", "--top-p", "0.5", "--cache-dir", "/models"]) == 0
    assert seen[0].settings.edge.max_depth == 3
    assert seen[0].settings.sampling.top_p == 0.5
    assert seen[0].settings.models.cache_dir == Path("/models")


def test_the_verifiers_model_may_be_called_its_target(
    install: Install, capsys: pytest.CaptureFixture[str]
) -> None:
    command, seen = captured(VerifierSettings)
    install("it", command)
    for flag in ("--model", "--target"):
        assert cli.run(["it", flag, "synthetic:c0=5ms"]) == 0
        assert seen[-1].settings.verifier.model == "synthetic:c0=5ms"
    cli.run(["it", "--help"])
    assert "--model, --target MODEL" in capsys.readouterr().out


def test_options_that_would_share_a_name_are_refused() -> None:
    with pytest.raises(ValueError, match="--num-threads"):
        captured(VerifierSettings, EdgeSettings)


def test_a_bad_option_is_refused_in_the_words_of_the_settings(
    install: Install, capsys: pytest.CaptureFixture[str]
) -> None:
    install("it", captured(VerifierSettings)[0])
    assert cli.run(["it", "--port", "http"]) == 2
    assert capsys.readouterr().err == (
        "outrider: error: verifier.port is 'http' (from --port), "
        "but it must be an integer from 0 to 65535.\n"
    )


def test_the_help_of_an_option_says_default_and_variable(
    install: Install, capsys: pytest.CaptureFixture[str]
) -> None:
    install("it", captured(VerifierSettings)[0])
    assert cli.run(["it", "--help"]) == 0
    words = " ".join(capsys.readouterr().out.split())
    assert "[default: 7411; variable: OUTRIDER_VERIFIER_PORT]" in words
    assert "--log-level" in words


def test_a_sub_command_finds_the_file_that_its_parent_was_given(
    install: Install, tmp_path: Path
) -> None:
    file = tmp_path / "here.toml"
    file.write_text("[verifier]\nport = 9\n")
    seen: list[LoadedSettings] = []

    @click.group("it")
    def group() -> None:
        """Group."""

    @group.command("sub")
    def sub() -> None:
        seen.append(load())

    install("it", group)
    assert cli.run(["--config", str(file), "it", "sub"]) == 0
    assert seen[0].settings.verifier.port == 9
