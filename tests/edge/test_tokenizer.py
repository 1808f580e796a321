"""The edge's tokenizer, against Transformers on a real model's files."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from outrider_common.errors import InvalidPromptError, ModelFileError, UnsupportedError
from outrider_edge.tokenizer import EdgeTokenizer

SPEC_BENCH = Path(__file__).parent.parent / "data" / "spec_bench_even.jsonl"


def chats() -> Iterator[list[dict[str, str]]]:
    """Every prompt of the bench; with several turns, an answer in between; some with a system."""
    for i, line in enumerate(SPEC_BENCH.read_text(encoding="utf-8").splitlines()):
        chat = [{"role": "system", "content": f"You are number {i}."}] if i % 2 else []
        for turn in json.loads(line)["turns"]:
            chat += [
                {"role": "user", "content": turn},
                {"role": "assistant", "content": "Naïve 🙂"},
            ]
        yield chat[:-1]


@pytest.fixture(scope="module")
def tokenizer(smollm2_dir: Path) -> EdgeTokenizer:
    return EdgeTokenizer.load(smollm2_dir)


@pytest.fixture(scope="module")
def reference(smollm2_dir: Path) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(smollm2_dir)


@pytest.fixture
def directory(smollm2_dir: Path, tmp_path: Path) -> Path:
    """A copy of the model's text files, to be spoiled."""
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        shutil.copy(smollm2_dir / name, tmp_path)
    return tmp_path


def test_every_chat_of_the_bench_becomes_the_tokens_that_transformers_makes(
    tokenizer: EdgeTokenizer, reference: Any
) -> None:
    for chat in chats():
        expected = reference.apply_chat_template(chat, add_generation_prompt=True)["input_ids"]
        assert tokenizer.encode_chat(chat) == expected


def test_a_chat_may_end_without_introducing_an_answer(
    tokenizer: EdgeTokenizer, reference: Any
) -> None:
    chat = [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Hi"}]
    expected = reference.apply_chat_template(chat)["input_ids"]
    assert tokenizer.encode_chat(chat, add_generation_prompt=False) == expected


def test_plain_text_and_its_decoding_are_those_of_transformers(
    tokenizer: EdgeTokenizer, reference: Any
) -> None:
    text = "<|im_start|>Caf\u00e9 \U0001f600  \n\ttwo  spaces<|im_end|>"
    tokens = tokenizer.encode(text)
    assert tokens == reference(text)["input_ids"]
    assert tokenizer.decode(tokens, skip_special_tokens=False) == text
    assert tokenizer.decode(tokens) == reference.decode(tokens, skip_special_tokens=True)


def test_its_vocabulary_is_that_of_transformers(tokenizer: EdgeTokenizer, reference: Any) -> None:
    assert tokenizer.vocabulary() == reference.get_vocab()
    assert tokenizer.vocab_size == len(reference)


def test_a_generation_is_decoded_piece_by_piece(tokenizer: EdgeTokenizer) -> None:
    tokens = tokenizer.encode("Hello, caf\u00e9!")
    detokenizer = tokenizer.detokenizer()
    pieces = [detokenizer.push(token) for token in tokens]
    assert "".join(pieces) == "Hello, caf\u00e9!"


def test_padding_and_truncation_in_the_file_are_switched_off(directory: Path) -> None:
    content = json.loads((directory / "tokenizer.json").read_text(encoding="utf-8"))
    content["truncation"] = {
        "direction": "Right",
        "max_length": 3,
        "strategy": "LongestFirst",
        "stride": 0,
    }
    (directory / "tokenizer.json").write_text(json.dumps(content), encoding="utf-8")
    assert len(EdgeTokenizer.load(directory).encode("one two three four five")) == 5


def test_without_a_tokenizer_config_special_tokens_come_from_their_ids(directory: Path) -> None:
    (directory / "tokenizer_config.json").unlink()
    (directory / "chat_template.jinja").write_text("{{ bos_token }}|{{ eos_token }}|{{ x_token }}")
    ids = {"bos_token": 1, "eos_token": 2, "pad_token": None, "x_token": 10**6}
    loaded = EdgeTokenizer.load(directory, ids)
    tokens = loaded.encode_chat([{"role": "user", "content": ""}])
    assert loaded.decode(tokens, skip_special_tokens=False) == "<|im_start|>|<|im_end|>|"


@pytest.mark.parametrize(
    "template",
    [
        "{{ bos_token }}!",
        [
            {"name": "tool_use", "template": "no"},
            {"name": "default", "template": "{{ bos_token }}!"},
        ],
    ],
)
def test_a_template_and_tokens_may_stand_in_the_tokenizer_config(
    directory: Path, template: Any
) -> None:
    (directory / "chat_template.jinja").unlink()
    config = {"chat_template": template, "bos_token": {"content": "<s>"}, "add_bos_token": True}
    (directory / "tokenizer_config.json").write_text(json.dumps(config))
    loaded = EdgeTokenizer.load(directory)
    assert loaded.decode(loaded.encode_chat([{"role": "user"}])) == "<s>!"


def test_a_model_without_a_chat_template_still_encodes_plain_text(directory: Path) -> None:
    (directory / "chat_template.jinja").unlink()
    loaded = EdgeTokenizer.load(directory)
    assert loaded.encode("Hello")
    with pytest.raises(UnsupportedError, match="no chat template"):
        loaded.encode_chat([{"role": "user", "content": "Hello"}])


def test_half_a_surrogate_pair_is_an_invalid_prompt(tokenizer: EdgeTokenizer) -> None:
    with pytest.raises(InvalidPromptError, match=r"U\+D83D, at character 3"):
        tokenizer.encode("abc\ud83d")


@pytest.mark.parametrize(
    ("name", "content", "complaint"),
    [
        ("tokenizer.json", None, "tokenizer.json is missing"),
        ("tokenizer.json", '{"version": "1.0"', "tokenizer.json is not a tokenizer file"),
        ("tokenizer_config.json", "{", "tokenizer_config.json is not JSON"),
        ("tokenizer_config.json", "[]", "tokenizer_config.json is not a JSON object"),
        ("tokenizer_config.json", b"\xff", "tokenizer_config.json is not UTF-8"),
        ("chat_template.jinja", "{% if %}", "does not compile"),
        ("chat_template.jinja", b"\xff", "chat_template.jinja is not UTF-8"),
    ],
)
def test_a_spoiled_file_is_named(
    directory: Path, name: str, content: str | bytes | None, complaint: str
) -> None:
    (directory / name).unlink()
    if content is not None:
        (directory / name).write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(ModelFileError, match=complaint):
        EdgeTokenizer.load(directory)
