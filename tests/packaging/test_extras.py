"""One role can be installed without what only the other role needs."""

import json
import os
import subprocess
from pathlib import Path
from zipfile import ZipFile

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

PROBE = """
import importlib, importlib.util, json, pkgutil, sys
package, absent = sys.argv[1], sys.argv[2:]
root = importlib.import_module(package)
names = [module.name for module in pkgutil.walk_packages(root.__path__, package + ".")]
for name in names:
    importlib.import_module(name)
present = [name for name in absent if importlib.util.find_spec(name)]
print(json.dumps({"imported": names, "present": present}))
"""


def run(*command: str | Path) -> subprocess.CompletedProcess[str]:
    """Run a command as on another machine: no settings, and only its own packages."""
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("OUTRIDER_", "PYTHON", "VIRTUAL_ENV"))
    }
    return subprocess.run(
        command, capture_output=True, text=True, check=False, env=environment, cwd="/"
    )


def probe(environment: Path, package: str, *absent: str) -> dict[str, list[str]]:
    """Import every module of `package`; which ones, and which of `absent` are installed."""
    result = run(environment / "python", "-c", PROBE, package, *absent)
    assert result.returncode == 0, result.stderr
    found: dict[str, list[str]] = json.loads(result.stdout)
    return found


def listed_commands(environment: Path) -> tuple[dict[str, str], dict[str, str]]:
    """The commands that `outrider --help` lists as usable and as not installed, with their help."""
    listed = run(environment / "outrider", "--help").stdout
    usable, _, absent = listed.partition("Commands:\n")[2].partition("Not installed:\n")
    return definitions(usable), definitions(absent)


def definitions(text: str) -> dict[str, str]:
    pairs = [line.strip().partition("  ") for line in text.splitlines() if line.strip()]
    return {name: explanation.strip() for name, _, explanation in pairs}


def test_an_edge_works_without_any_training_framework(edge_only_env: Path) -> None:
    absent = ("torch", "transformers", "onnx", "onnxruntime_genai", "accelerate", "gguf")
    found = probe(edge_only_env, "outrider_edge", *absent)
    assert found["present"] == []
    assert "outrider_edge.cli" in found["imported"]


def test_a_verifier_works_without_onnx_runtime(cloud_only_env: Path) -> None:
    found = probe(cloud_only_env, "outrider_cloud", "onnxruntime", "onnxruntime_genai", "onnx")
    assert found["present"] == []
    assert "outrider_cloud.cli" in found["imported"]


@pytest.mark.parametrize(
    "package", ["outrider_bench", "outrider_common", "outrider_models", "outrider"]
)
def test_what_both_roles_share_can_be_imported_with_either_extra(
    edge_only_env: Path, cloud_only_env: Path, package: str
) -> None:
    for environment in (edge_only_env, cloud_only_env):
        assert probe(environment, package)["imported"]


def test_an_edge_lists_its_commands_and_names_the_extra_for_the_other(edge_only_env: Path) -> None:
    commands, absent = listed_commands(edge_only_env)
    assert {"config", "edge", "models"} <= commands.keys()
    assert absent["verifier"] == "pip install 'outrider[cloud]'"
    assert "verifier" not in commands


def test_a_verifier_lists_its_commands_and_names_the_extra_for_the_other(
    cloud_only_env: Path,
) -> None:
    commands, absent = listed_commands(cloud_only_env)
    assert {"config", "models", "verifier"} <= commands.keys()
    assert absent["edge"] == "pip install 'outrider[edge]'"
    assert "edge" not in commands


def test_the_help_of_the_edge_command_is_there_on_an_edge(edge_only_env: Path) -> None:
    result = run(edge_only_env / "outrider", "edge", "--help")
    assert result.returncode == 0, result.stderr
    assert "Usage: outrider edge" in result.stdout


def test_the_help_of_the_verifier_command_is_there_on_a_verifier(cloud_only_env: Path) -> None:
    result = run(cloud_only_env / "outrider", "verifier", "--help")
    assert result.returncode == 0, result.stderr
    assert "Usage: outrider verifier" in result.stdout


def test_the_verifier_command_on_an_edge_says_what_to_install(edge_only_env: Path) -> None:
    result = run(edge_only_env / "outrider", "verifier", "serve")
    assert result.returncode == 2
    assert "needs the extra cloud" in result.stderr
    assert result.stderr.count("\n") == 1


def test_the_wheel_holds_every_package_typed_and_licensed(wheel: Path) -> None:
    names = ZipFile(wheel).namelist()
    packages = {name.partition("/")[0] for name in names if name.endswith("/py.typed")}
    assert packages == {
        "outrider",
        "outrider_bench",
        "outrider_charts",
        "outrider_common",
        "outrider_models",
        "outrider_edge",
        "outrider_export",
        "outrider_cloud",
        "outrider_distill",
    }
    assert any(name.endswith("licenses/LICENSE") for name in names)
    assert not [name for name in names if name.startswith(("tests/", "tools/"))]


def test_the_wheel_holds_the_daemons_page(wheel: Path) -> None:
    held = {name.rpartition("/web/")[2] for name in ZipFile(wheel).namelist() if "/web/" in name}
    sources = Path(__file__).parents[2] / "edge" / "outrider_edge" / "web"
    assert held == {path.name for path in sources.iterdir()}
    assert "index.html" in held
