"""Pulling from a hub, with the hub's real client against a small hub on the loopback."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from fake_hub import COMMIT, FakeHub, serve

from outrider_common.errors import (
    InvalidInputError,
    ModelFileError,
    UnavailableError,
    UnknownModelError,
)
from outrider_models.pull import pull
from outrider_models.store import ModelStore, verify_checksums

WEIGHTS = bytes(range(256)) * 400
FILES = {
    "config.json": b'{"model_type": "llama"}',
    "model.safetensors": WEIGHTS,
    "tokenizer.json": b"{}",
    "chat_template.jinja": b"{{ messages }}",
    "pytorch_model.bin": b"not wanted",
    "pictures/cat.png": b"not wanted either",
}


@pytest.fixture
def hub() -> Iterator[FakeHub]:
    repositories = {"org/model": FILES, "org/pictures": {"cat.png": b"meow", "config.json": b"{}"}}
    with serve(FakeHub(repositories)) as running:
        yield running


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """The client waits for seconds between its attempts."""
    monkeypatch.setattr("time.sleep", lambda _seconds: None)


@pytest.fixture
def store(tmp_path: Path) -> ModelStore:
    return ModelStore(tmp_path / "store")


def names_in(directory: Path) -> set[str]:
    return {path.name for path in directory.iterdir()}


def test_only_the_files_that_a_model_needs_are_fetched(hub: FakeHub, store: ModelStore) -> None:
    path = pull("hf:org/model", store, endpoint=hub.endpoint)
    wanted = {"config.json", "model.safetensors", "tokenizer.json", "chat_template.jinja"}
    assert names_in(path) == wanted | {"checksums.json"}
    assert (path / "model.safetensors").read_bytes() == WEIGHTS
    verify_checksums(path, contents=True)


def test_a_pulled_model_is_found_by_its_reference_without_the_hub(
    hub: FakeHub, store: ModelStore
) -> None:
    path = pull("hf:org/model", store, endpoint=hub.endpoint)
    num_downloads = len(hub.downloads)
    assert store.resolve_model("hf:org/model") == path
    assert store.resolve_model("org--model") == path
    assert pull("hf:org/model", store, endpoint="http://127.0.0.1:1") == path
    assert len(hub.downloads) == num_downloads


def test_a_revision_is_an_entry_of_its_own(hub: FakeHub, store: ModelStore) -> None:
    at_commit = pull(f"hf:org/model@{COMMIT}", store, endpoint=hub.endpoint)
    assert at_commit.name == f"org--model@{COMMIT}"
    with pytest.raises(UnknownModelError, match="hf:org/model"):
        store.resolve_model("hf:org/model")


@pytest.mark.parametrize("reference", ["hf:org/nothing", "hf:org/model@nowhere"])
def test_what_the_hub_does_not_have_is_unknown(
    hub: FakeHub, store: ModelStore, reference: str
) -> None:
    with pytest.raises(UnknownModelError, match=f"The hub has no {reference}"):
        pull(reference, store, endpoint=hub.endpoint)
    assert store.entries() == []


def test_a_repository_without_weights_is_not_a_model(hub: FakeHub, store: ModelStore) -> None:
    with pytest.raises(ModelFileError, match="hf:org/pictures"):
        pull("hf:org/pictures", store, endpoint=hub.endpoint)
    assert store.entries() == []


def test_a_hub_that_cannot_be_reached_is_unavailable(store: ModelStore) -> None:
    with pytest.raises(UnavailableError, match="hf:org/model"):
        pull("hf:org/model", store, endpoint="http://127.0.0.1:1")


def test_a_download_that_breaks_off_is_not_a_model_and_goes_on_later(
    hub: FakeHub, store: ModelStore
) -> None:
    hub.breaks_after = 1000
    with pytest.raises(UnavailableError):
        pull("hf:org/model", store, endpoint=hub.endpoint)
    assert store.entries() == []
    hub.breaks_after = None
    hub.downloads.clear()
    path = pull("hf:org/model", store, endpoint=hub.endpoint)
    assert (path / "model.safetensors").read_bytes() == WEIGHTS
    assert "config.json" not in hub.downloads


@pytest.mark.parametrize("text", ["hf:", "hf:model", "hf:org/", "hf:org/a/b", "hf:../x", "hf:o/n@"])
def test_a_malformed_reference_is_refused(store: ModelStore, text: str) -> None:
    with pytest.raises(InvalidInputError, match="hf:organisation/name"):
        pull(text, store)
