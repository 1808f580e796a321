"""Drafter bundles: what is read back, and what is said of a damaged one."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from bundles import CONTENTS, write_bundle
from hypothesis import given
from hypothesis import strategies as st

from outrider_common.errors import ModelFileError
from outrider_models.bundle import (
    Bundle,
    Manifest,
    tokenizer_fingerprint,
)
from outrider_models.checksums import record_files


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    write_bundle(tmp_path)
    return tmp_path


def edit_manifest(directory: Path, edit: Callable[[dict[str, Any]], object]) -> None:
    path = directory / "manifest.json"
    document = json.loads(path.read_text())
    edit(document)
    path.write_text(json.dumps(document))


def test_a_manifest_comes_back_as_it_was_written(directory: Path) -> None:
    bundle = Bundle.load(directory, verify=True)
    text = (directory / "manifest.json").read_text()
    assert bundle.manifest.to_json() == text
    assert bundle.manifest.eos_token_ids == (2, 5)
    assert bundle.manifest.kv.input_names() == [
        "past.0.key",
        "past.0.value",
        "past.1.key",
        "past.1.value",
    ]
    assert bundle.graph_file.read_bytes() == b"graph"
    assert bundle.tokenizer_file.read_bytes() == b"{}"
    assert bundle.chat_template() == "{{ messages }}"


def test_a_bundle_may_lack_a_chat_template(directory: Path) -> None:
    edit_manifest(directory, lambda d: d["files"].pop("chat_template.jinja"))
    assert Bundle.load(directory).chat_template() is None


def test_a_bundle_of_the_first_format_is_read(directory: Path) -> None:
    def as_it_was(document: dict[str, Any]) -> None:
        document["format_version"] = 1
        del document["num_draft_tokens"]
        del document["quantisation"]["embedding_bits"]
        del document["parity"]["coverage"]

    edit_manifest(directory, as_it_was)
    bundle = Bundle.load(directory)
    assert bundle.manifest.parity.coverage == 1
    assert bundle.draft_vocabulary() is None


def with_draft_vocabulary(directory: Path, contents: bytes, size: int = 3) -> Bundle:
    (directory / "draft_vocabulary.json").write_bytes(contents)
    record = record_files(directory, ["draft_vocabulary.json"])["draft_vocabulary.json"]
    entry = {"size": record.size, "sha256": record.sha256}
    edit_manifest(directory, lambda d: d.update(num_draft_tokens=size))
    edit_manifest(directory, lambda d: d["files"].update({"draft_vocabulary.json": entry}))
    return Bundle.load(directory, verify=True)


def test_a_draft_vocabulary_comes_back_as_it_was_written(directory: Path) -> None:
    assert with_draft_vocabulary(directory, b"[0, 5, 299]").draft_vocabulary() == [0, 5, 299]


@pytest.mark.parametrize(
    "contents",
    [b"", b"{}", b"[0, 5]", b"[5, 0, 7]", b"[0, 5, 5]", b"[-1, 5, 6]", b"[0, 5, 300]", b'["0"]'],
)
def test_a_draft_vocabulary_that_cannot_be_right_is_refused(
    directory: Path, contents: bytes
) -> None:
    bundle = with_draft_vocabulary(directory, contents)
    with pytest.raises(ModelFileError, match=r"draft_vocabulary\.json .*: export the bundle again"):
        bundle.draft_vocabulary()


def test_a_manifest_with_a_draft_vocabulary_must_list_its_file(directory: Path) -> None:
    edit_manifest(directory, lambda d: d.update(num_draft_tokens=3))
    with pytest.raises(ModelFileError, match=r"does not list the file draft_vocabulary\.json"):
        Bundle.load(directory)


def test_what_a_later_exporter_adds_is_ignored(directory: Path) -> None:
    edit_manifest(directory, lambda d: d.update(colour="green"))
    Bundle.load(directory)


def test_a_directory_without_a_manifest_is_not_a_bundle(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match=r"manifest\.json is missing: give the directory"):
        Bundle.load(tmp_path)


@pytest.mark.parametrize("version", [0, 3, "1", None])
def test_another_format_version_is_refused_by_number(directory: Path, version: object) -> None:
    edit_manifest(directory, lambda d: d.update(format_version=version))
    with pytest.raises(ModelFileError, match=r"format version .* but this release reads 1 and 2:"):
        Bundle.load(directory)


@pytest.mark.parametrize("text", [b"[]", b'"text"', b"null"])
def test_a_manifest_that_is_no_object_is_refused(directory: Path, text: bytes) -> None:
    (directory / "manifest.json").write_bytes(text)
    with pytest.raises(ModelFileError, match="format version None"):
        Bundle.load(directory)


@pytest.mark.parametrize(
    ("edit", "named"),
    [
        (lambda d: d.pop("vocab_size"), "vocab_size"),
        (lambda d: d.update(vocab_size="many"), "vocab_size"),
        (lambda d: d["kv"].update(num_layers=1.5), "kv.num_layers"),
        (lambda d: d["files"]["model.onnx"].update(sha256="abc"), "files.model.onnx"),
        (lambda d: d.update(eos_token_ids=[2, None]), "eos_token_ids.1"),
        (lambda d: d.update(mask_token_ids=[7, "8"]), "mask_token_ids.1"),
    ],
)
def test_a_bad_entry_of_the_manifest_is_named(
    directory: Path, edit: Callable[[dict[str, Any]], object], named: str
) -> None:
    edit_manifest(directory, edit)
    with pytest.raises(ModelFileError, match=f"'{named}'"):
        Bundle.load(directory)


@pytest.mark.parametrize(
    ("masks", "complaint"),
    [
        ([7, 300], r"the mask token 300, but the model reads tokens from 0 to 299: correct"),
        ([-1], "the mask token -1, but"),
        ([7, 8, 7], "the mask token 7 twice: correct 'mask_token_ids' in the config.json"),
    ],
)
def test_masks_that_are_not_distinct_tokens_are_named(
    directory: Path, masks: list[int], complaint: str
) -> None:
    edit_manifest(directory, lambda d: d.update(mask_token_ids=masks))
    with pytest.raises(ModelFileError, match=complaint):
        Bundle.load(directory)


def test_a_bundle_without_masks_has_none(directory: Path) -> None:
    edit_manifest(directory, lambda d: d.pop("mask_token_ids"))
    assert Bundle.load(directory).manifest.mask_token_ids == ()
    edit_manifest(directory, lambda d: d.update(mask_token_ids=[7, 0]))
    assert Bundle.load(directory).manifest.mask_token_ids == (7, 0)


@pytest.mark.parametrize("name", ["model.onnx", "tokenizer.json"])
def test_a_manifest_must_list_the_files_that_every_bundle_has(directory: Path, name: str) -> None:
    edit_manifest(directory, lambda d: d["files"].pop(name))
    with pytest.raises(ModelFileError, match=f"does not list the file {name}"):
        Bundle.load(directory)


@pytest.mark.parametrize("name", CONTENTS)
def test_a_missing_or_truncated_file_is_named_at_once(directory: Path, name: str) -> None:
    path = directory / name
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ModelFileError, match=f"{name} has .* bytes instead of"):
        Bundle.load(directory)
    path.unlink()
    with pytest.raises(ModelFileError, match=f"{name} is missing"):
        Bundle.load(directory)


@pytest.mark.parametrize("name", CONTENTS)
def test_changed_contents_are_found_by_the_full_check(directory: Path, name: str) -> None:
    path = directory / name
    path.write_bytes(bytes([path.read_bytes()[0] ^ 1]) + path.read_bytes()[1:])
    Bundle.load(directory)
    with pytest.raises(ModelFileError, match=f"{name} does not match its checksum"):
        Bundle.load(directory, verify=True)


def test_a_manifest_cut_at_any_byte_gives_one_clear_sentence(directory: Path) -> None:
    path = directory / "manifest.json"
    whole = path.read_bytes().rstrip()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(ModelFileError, match=r"manifest\.json .*: export the bundle again"):
            Bundle.load(directory)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=5,
)


@given(key=st.sampled_from(list(Manifest.__dataclass_fields__)), value=JSON)
def test_no_value_of_any_entry_does_more_than_be_refused(
    tmp_path_factory: pytest.TempPathFactory, key: str, value: object
) -> None:
    directory = tmp_path_factory.mktemp("bundle")
    (directory / "manifest.json").write_text(json.dumps({"format_version": 1, key: value}))
    with pytest.raises(ModelFileError):
        Bundle.load(directory)


def test_a_fingerprint_is_known() -> None:
    # Computed with sha256sum over: [[0,"a"],[1,"\u00e9"]]
    expected = "v1:a274c759972757f01c0206e6c760cc068418ae9206d8599c58708a6113987a79"
    assert tokenizer_fingerprint({"é": 1, "a": 0}) == expected


@given(st.dictionaries(st.text(), st.integers(0, 1000), min_size=1))
def test_a_fingerprint_depends_on_the_pairs_and_not_on_their_order(
    vocabulary: dict[str, int],
) -> None:
    backwards = dict(reversed(vocabulary.items()))
    assert tokenizer_fingerprint(vocabulary) == tokenizer_fingerprint(backwards)
    token = next(iter(vocabulary))
    changed = {**vocabulary, token: vocabulary[token] + 1}
    assert tokenizer_fingerprint(vocabulary) != tokenizer_fingerprint(changed)


def test_a_chat_template_that_is_no_text_is_refused(directory: Path) -> None:
    template = directory / "chat_template.jinja"
    template.write_bytes(b"\xff" * template.stat().st_size)
    with pytest.raises(ModelFileError, match="cannot be read as text"):
        Bundle.load(directory).chat_template()
