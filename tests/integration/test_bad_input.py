"""What a person may get wrong on the command line: one clear sentence, a status, no traceback."""

import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from ports import free_port

from outrider_models.bundle import MANIFEST_FILE, TOKENIZER_FILE
from outrider_models.checksums import sha256_of

pytestmark = pytest.mark.slow


def outrider(*arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "outrider", *arguments],
        input=stdin,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def assert_one_sentence(
    result: subprocess.CompletedProcess[str], *faults: str, status: int
) -> None:
    assert result.returncode == status, result.stderr
    assert "Traceback" not in result.stderr
    lines = [line for line in result.stderr.splitlines() if line.startswith("outrider: error:")]
    assert len(lines) == 1, result.stderr
    for fault in faults:
        assert fault in lines[0]


@pytest.fixture
def busy_port() -> Iterator[int]:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        yield taken.getsockname()[1]


@pytest.fixture
def bundle_copy(int8_bundle_dir: Path, tmp_path: Path) -> Path:
    """The bundle again, its large files linked."""
    copy = tmp_path / "bundle"
    copy.mkdir()
    for file in int8_bundle_dir.iterdir():
        (copy / file.name).symlink_to(file)
    return copy


def replace(file: Path, content: bytes) -> None:
    """Give a linked file content of its own."""
    file.unlink()
    file.write_bytes(content)


def test_a_verifier_that_is_not_there() -> None:
    address = f"127.0.0.1:{free_port()}"
    result = outrider("edge", "run", "Hi", "--verifier", address)
    assert_one_sentence(result, address, "outrider verifier serve", status=1)


@pytest.mark.parametrize("prompt", ["", "  \n"])
def test_an_empty_prompt(prompt: str) -> None:
    assert_one_sentence(outrider("edge", "run", prompt), "prompt is empty", status=2)


def test_an_empty_prompt_from_standard_input() -> None:
    assert_one_sentence(outrider("edge", "run", "-"), "prompt is empty", status=2)


def test_a_prompt_longer_than_the_models_context(verifier_address: str) -> None:
    result = outrider("edge", "run", "-", "--verifier", verifier_address, stdin="word " * 9000)
    assert_one_sentence(result, "The prompt has 90", "at most 8191", status=2)


@pytest.mark.parametrize(
    ("flag", "value"),
    [
        ("--temperature", "nan"),
        ("--temperature", "-1"),
        ("--top-p", "0"),
        ("--min-p", "2"),
        ("--top-k", "-1"),
        ("--repetition-penalty", "0"),
        ("--max-tokens", "0"),
        ("--seed", "-5"),
    ],
)
def test_sampling_parameters_out_of_range(flag: str, value: str) -> None:
    result = outrider("edge", "run", "Hi", f"{flag}={value}")
    assert_one_sentence(result, flag.lstrip("-").replace("-", "_"), value, status=2)


def test_a_bundle_that_is_not_there() -> None:
    result = outrider("edge", "run", "Hi", "--bundle", "no-such-bundle")
    assert_one_sentence(result, "no-such-bundle", "outrider models", status=1)


def test_a_half_downloaded_bundle(bundle_copy: Path) -> None:
    largest = max(bundle_copy.iterdir(), key=lambda file: file.stat().st_size)
    replace(largest, largest.read_bytes()[:1000])
    result = outrider("edge", "run", "Hi", "--bundle", str(bundle_copy))
    assert_one_sentence(result, largest.name, status=1)


def test_a_bundle_with_a_corrupt_manifest(bundle_copy: Path) -> None:
    replace(bundle_copy / MANIFEST_FILE, b"{ not json")
    result = outrider("edge", "run", "Hi", "--bundle", str(bundle_copy))
    assert_one_sentence(result, MANIFEST_FILE, status=1)


def test_a_bundle_with_another_tokenizer(bundle_copy: Path, verifier_address: str) -> None:
    tokenizer = json.loads((bundle_copy / TOKENIZER_FILE).read_text(encoding="utf-8"))
    vocabulary = tokenizer["model"]["vocab"]
    vocabulary["the"], vocabulary["of"] = vocabulary["of"], vocabulary["the"]
    replace(bundle_copy / TOKENIZER_FILE, json.dumps(tokenizer).encode())
    manifest = json.loads((bundle_copy / MANIFEST_FILE).read_text(encoding="utf-8"))
    manifest["files"][TOKENIZER_FILE] = {
        "size": (bundle_copy / TOKENIZER_FILE).stat().st_size,
        "sha256": sha256_of(bundle_copy / TOKENIZER_FILE),
    }
    replace(bundle_copy / MANIFEST_FILE, json.dumps(manifest).encode())
    arguments = ("--bundle", str(bundle_copy), "--verifier", verifier_address)
    assert_one_sentence(
        outrider("edge", "run", "Hi", *arguments), "another tokenizer", "smollm2", status=1
    )


def test_an_unknown_target_model() -> None:
    result = outrider("verifier", "serve", "--model", "no-such-model")
    assert_one_sentence(result, "no-such-model", "outrider models pull", status=1)


def test_a_directory_that_is_no_model(tmp_path: Path) -> None:
    result = outrider("verifier", "serve", "--model", str(tmp_path))
    assert_one_sentence(result, str(tmp_path), status=1)


def test_a_port_in_use(busy_port: int, smollm2_dir: Path) -> None:
    result = outrider("verifier", "serve", "--port", str(busy_port), "--model", str(smollm2_dir))
    assert_one_sentence(result, f"127.0.0.1:{busy_port}", "--port", status=1)


def test_an_unknown_proposer() -> None:
    result = outrider("edge", "run", "Hi", "--proposers", "oracle")
    assert_one_sentence(result, "oracle", "retrieval", status=2)
