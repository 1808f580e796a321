"""The commands `outrider models ...`, with an exporter that only pretends."""

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from outrider_common.errors import (
    InvalidInputError,
    MissingExtraError,
    ModelFileError,
    UnknownModelError,
)
from outrider_models.cli import models
from outrider_models.exporting import ExportRequest
from outrider_models.store import Kind, ModelStore, write_checksums


def fill_model(directory: Path) -> None:
    (directory / "config.json").write_text("{}")
    write_checksums(directory, source="a test")


def pretend_to_export(_source: Path, directory: Path, request: ExportRequest) -> None:
    (directory / "manifest.json").write_text(str(request))


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModelStore:
    monkeypatch.setattr("outrider_models.exporting.write_bundle", pretend_to_export)
    store = ModelStore(tmp_path / "store")
    store.install(Kind.MODEL, "tiny", fill_model)
    return store


def run(store: ModelStore, *arguments: str) -> Result:
    command = [*arguments, "--cache-dir", str(store.root)]
    return CliRunner().invoke(models, command, catch_exceptions=False)


def test_export_writes_into_the_store_under_model_and_quantisation(store: ModelStore) -> None:
    result = run(store, "export", "tiny", "--quantisation", "int4")
    path = store.resolve_bundle("tiny-int4")
    assert result.stdout == f"{path}\n"
    assert "quantisation='int4'" in (path / "manifest.json").read_text()


def test_a_second_export_returns_at_once_unless_forced(
    store: ModelStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = run(store, "export", "tiny")
    monkeypatch.setattr("outrider_models.exporting.write_bundle", None)
    second = run(store, "export", "tiny")
    assert second.stdout == first.stdout
    assert "there already" in second.stderr
    with pytest.raises(TypeError):
        run(store, "export", "tiny", "--force")


def test_export_can_write_elsewhere(store: ModelStore, tmp_path: Path) -> None:
    out = tmp_path / "some" / "where"
    assert run(store, "export", "tiny", "--out", str(out)).stdout == f"{out}\n"
    assert (out / "manifest.json").is_file()
    assert "there already" in run(store, "export", "tiny", "--out", str(out)).stderr
    assert "there already" not in run(store, "export", "tiny", "--out", str(out), "--force").stderr


def test_export_never_overwrites_a_directory_that_is_no_bundle(
    store: ModelStore, tmp_path: Path
) -> None:
    precious = tmp_path / "precious"
    precious.write_text("keep me")
    with pytest.raises(InvalidInputError, match="not a bundle"):
        run(store, "export", "tiny", "--out", str(tmp_path), "--force")
    assert precious.read_text() == "keep me"


def test_the_name_of_a_bundle_can_be_chosen(store: ModelStore) -> None:
    run(store, "export", "tiny", "--name", "mine")
    assert run(store, "path", "mine").stdout == f"{store.root}/bundles/mine\n"


def test_a_draft_vocabulary_is_part_of_the_request_and_of_the_name(
    store: ModelStore, tmp_path: Path
) -> None:
    text = tmp_path / "answers.txt"
    text.write_text("text")
    options = ("--draft-vocabulary", "500", "--draft-text", str(text), "--kv-bits", "8")
    run(store, "export", "tiny", *options)
    manifest = (store.resolve_bundle("tiny-int8-top500") / "manifest.json").read_text()
    assert "draft_vocabulary=500" in manifest
    assert repr(text) in manifest
    assert "kv_bits=8" in manifest


def test_a_text_to_count_in_needs_a_number_to_keep(store: ModelStore, tmp_path: Path) -> None:
    text = tmp_path / "answers.txt"
    text.write_text("text")
    with pytest.raises(InvalidInputError, match=r"answers\.txt .*: add --draft-vocabulary"):
        run(store, "export", "tiny", "--draft-text", str(text))


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (("--draft-vocabulary", "0"), "0 is not in the range"),
        (("--draft-vocabulary", "5", "--draft-text", "nowhere"), "'nowhere' does not exist"),
        (("--kv-bits", "4"), "'4' is not one of"),
    ],
)
def test_options_that_cannot_be_used_are_refused_by_value(
    store: ModelStore, options: tuple[str, ...], named: str
) -> None:
    result = run(store, "export", "tiny", *options)
    assert result.exit_code == 2
    assert named in result.stderr


def test_export_of_an_unknown_model_says_how_to_pull_it(store: ModelStore) -> None:
    with pytest.raises(UnknownModelError, match="outrider models pull huge"):
        run(store, "export", "huge")


def test_a_missing_exporter_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = ModelStore(tmp_path)
    store.install(Kind.MODEL, "tiny", fill_model)
    monkeypatch.setitem(__import__("sys").modules, "outrider_export", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'outrider\[export\]'"):
        run(store, "export", "tiny")


def test_pull_of_what_is_there_prints_its_path(store: ModelStore) -> None:
    path = store.resolve_model("tiny")
    result = run(store, "pull", str(path))
    assert result.stdout == f"{path}\n"
    assert "there already" in result.stderr


def test_list_shows_models_and_bundles(store: ModelStore) -> None:
    run(store, "export", "tiny")
    lines = run(store, "list").stdout.splitlines()
    assert any("model" in line and "tiny" in line for line in lines)
    assert any("bundle" in line and "tiny-int8" in line for line in lines)


def test_verify_passes_what_is_whole_and_names_what_is_not(store: ModelStore) -> None:
    assert run(store, "verify").stdout == "tiny: ok\n"
    run(store, "export", "tiny")
    (store.resolve_model("tiny") / "config.json").write_text("[]")
    with pytest.raises(ModelFileError) as caught:
        run(store, "verify")
    assert "config.json does not match" in str(caught.value)
    assert "manifest.json cannot be read" in str(caught.value)


def test_verify_of_an_unknown_name_is_refused(store: ModelStore) -> None:
    with pytest.raises(UnknownModelError, match="huge"):
        run(store, "verify", "huge")


def test_path_of_a_hub_model_is_found_by_its_reference(store: ModelStore) -> None:
    path = store.install(Kind.MODEL, "org--name", fill_model)
    assert run(store, "path", "hf:org/name").stdout == f"{path}\n"
