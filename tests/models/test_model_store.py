"""The model store: names, installation that is whole or not at all, and checks."""

import json
import multiprocessing
import re
from pathlib import Path

import pytest

from outrider_common.errors import ModelFileError, UnknownModelError
from outrider_models.store import (
    Kind,
    ModelStore,
    default_root,
    verify_checksums,
    write_checksums,
)


@pytest.fixture
def store(tmp_path: Path) -> ModelStore:
    return ModelStore(tmp_path / "store")


def fill_model(directory: Path) -> None:
    (directory / "config.json").write_text("{}")
    (directory / "model.safetensors").write_bytes(b"weights")
    write_checksums(directory, source="a test")


def fill_bundle(directory: Path) -> None:
    (directory / "manifest.json").write_text("{}")


def fail_half_way(directory: Path) -> None:
    (directory / "config.json").write_text("{}")
    raise RuntimeError("the network is gone")


def never(directory: Path) -> None:
    raise AssertionError("this was there already")


def test_what_was_installed_is_found_by_name(store: ModelStore) -> None:
    model = store.install(Kind.MODEL, "tiny", fill_model)
    bundle = store.install(Kind.BUNDLE, "tiny-int8", fill_bundle)
    assert store.resolve_model("tiny") == model == store.root / "models" / "tiny"
    assert store.resolve_bundle("tiny-int8") == bundle == store.root / "bundles" / "tiny-int8"
    assert [(entry.kind, entry.name) for entry in store.entries()] == [
        (Kind.MODEL, "tiny"),
        (Kind.BUNDLE, "tiny-int8"),
    ]
    assert store.find("tiny-int8").path == bundle
    assert store.entries()[1].size == 2


def test_a_directory_of_ones_own_is_used_in_place(store: ModelStore, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "manifest.json").write_text("{}")
    assert store.resolve_model(str(tmp_path)) == tmp_path
    assert store.resolve_bundle(str(tmp_path)) == tmp_path


def test_an_unknown_name_is_answered_with_what_is_there_and_how_to_get_it(
    store: ModelStore,
) -> None:
    with pytest.raises(UnknownModelError, match=r"models in .* are: none; get it with"):
        store.resolve_model("huge")
    store.install(Kind.MODEL, "tiny", fill_model)
    with pytest.raises(UnknownModelError, match=r"are: tiny; .*'outrider models pull huge'"):
        store.resolve_model("huge")
    with pytest.raises(UnknownModelError, match=r"no bundle 'tiny'.*outrider models export"):
        store.resolve_bundle("tiny")
    with pytest.raises(UnknownModelError, match=r"outrider models pull hf:org/name@v1"):
        store.resolve_model("hf:org/name@v1")


@pytest.mark.parametrize("name", ["../tiny", "a/b", "", ".hidden", "a b"])
def test_a_name_cannot_lead_out_of_the_store(store: ModelStore, name: str) -> None:
    with pytest.raises(UnknownModelError, match=re.escape(repr(name))):
        store.install(Kind.MODEL, name, fill_model)


def test_what_is_there_is_not_made_again_unless_told(store: ModelStore) -> None:
    store.install(Kind.MODEL, "tiny", fill_model)
    path = store.install(Kind.MODEL, "tiny", never)

    def fill_anew(directory: Path) -> None:
        fill_model(directory)
        (directory / "new").write_text("")

    assert store.install(Kind.MODEL, "tiny", fill_anew, replace=True) == path
    assert (path / "new").exists()


def test_a_failed_installation_leaves_nothing(store: ModelStore) -> None:
    with pytest.raises(RuntimeError, match="network"):
        store.install(Kind.MODEL, "tiny", fail_half_way)
    assert store.entries() == []
    assert [path.name for path in (store.root / "models").iterdir()] == [".tiny.lock"]


def test_a_failed_replacement_leaves_what_was_there(store: ModelStore) -> None:
    path = store.install(Kind.MODEL, "tiny", fill_model)
    with pytest.raises(RuntimeError, match="network"):
        store.install(Kind.MODEL, "tiny", fail_half_way, replace=True)
    verify_checksums(path, contents=True)


def test_a_resumable_installation_finds_what_it_left(store: ModelStore) -> None:
    with pytest.raises(RuntimeError, match="network"):
        store.install(Kind.MODEL, "tiny", fail_half_way, resumable=True)
    assert store.entries() == []

    def resume(directory: Path) -> None:
        assert (directory / "config.json").exists()
        fill_model(directory)

    store.install(Kind.MODEL, "tiny", resume, resumable=True)


def install_and_count(root: Path, counter: Path) -> None:
    def fill(directory: Path) -> None:
        with counter.open("a") as file:
            file.write("x")
        fill_model(directory)

    ModelStore(root).install(Kind.MODEL, "tiny", fill)


def test_of_several_processes_one_installs_and_the_others_find_it(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    arguments = (tmp_path / "store", tmp_path / "counter")
    workers = [context.Process(target=install_and_count, args=arguments) for _ in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0, 0, 0]
    assert (tmp_path / "counter").read_text() == "x"


def test_installed_files_can_be_read_by_all(store: ModelStore) -> None:
    def fill_privately(directory: Path) -> None:
        fill_model(directory)
        (directory / "config.json").chmod(0o600)

    path = store.install(Kind.MODEL, "tiny", fill_privately)
    assert (path / "config.json").stat().st_mode & 0o777 == 0o644


def test_a_truncated_model_is_refused_when_it_is_resolved(store: ModelStore) -> None:
    path = store.install(Kind.MODEL, "tiny", fill_model)
    (path / "model.safetensors").write_bytes(b"weigh")
    with pytest.raises(ModelFileError, match=r"5 bytes instead of 7: .* pull --force tiny"):
        store.resolve_model("tiny")


def test_changed_contents_are_found_by_the_full_check(store: ModelStore) -> None:
    path = store.install(Kind.MODEL, "tiny", fill_model)
    (path / "model.safetensors").write_bytes(b"wEights")
    store.resolve_model("tiny")
    with pytest.raises(ModelFileError, match="checksum"):
        verify_checksums(path, contents=True)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"files": {"a": {"size": 1}}}', '{"files": 3}'])
def test_a_damaged_list_of_checksums_is_named(store: ModelStore, text: str) -> None:
    path = store.install(Kind.MODEL, "tiny", fill_model)
    (path / "checksums.json").write_text(text)
    with pytest.raises(ModelFileError, match=r"checksums\.json is not a list"):
        verify_checksums(path, contents=False)


def test_a_model_without_checksums_cannot_be_verified(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match=r"checksums\.json is missing"):
        verify_checksums(tmp_path, contents=False)


def test_checksums_cover_folders_but_not_themselves(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "a").write_text("a")
    write_checksums(tmp_path, source="a test")
    write_checksums(tmp_path, source="a test")
    assert list(json.loads((tmp_path / "checksums.json").read_text())["files"]) == ["sub/a"]


def test_the_default_place_follows_the_users_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    assert default_root() == Path("/somewhere/outrider")
    monkeypatch.setenv("XDG_CACHE_HOME", "")
    monkeypatch.setenv("HOME", "/home/someone")
    assert default_root() == Path("/home/someone/.cache/outrider")
