"""Which tokens are drafted from, and bundles whose LM head is cut to them."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import transformers
from tiny_models import train_tokenizer, write_tiny_model

from outrider_common.errors import InvalidInputError
from outrider_common.sampling import SamplingParams
from outrider_edge.language_model import WIDTH, LanguageModelProposer
from outrider_edge.onnx_model import OnnxModel
from outrider_edge.proposer import DraftingTask
from outrider_export import DraftVocabulary, Scheme, export_bundle
from outrider_export.draft_vocabulary import choose_tokens
from outrider_models.bundle import Bundle

VOCAB_SIZE = 300
TEXT = "the dog and the fox\n" * 3
TOKENS = np.random.default_rng(0).integers(0, VOCAB_SIZE, 40).tolist()


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return train_tokenizer()


def choose(tokenizer: Any, size: int, text: Path | None = None) -> list[int]:
    wanted = DraftVocabulary(size, text)
    chosen: list[int] = choose_tokens(wanted, tokenizer, VOCAB_SIZE, [5]).tolist()
    return chosen


@pytest.fixture
def large_text(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if the texts were large: next to them what is imagined hardly counts."""
    monkeypatch.setattr("outrider_export.draft_vocabulary._PRIOR_TOKENS", 0.1)


@pytest.mark.usefixtures("large_text")
def test_the_tokens_of_a_text_come_first_then_the_lowest_ids(
    tokenizer: Any, tmp_path: Path
) -> None:
    file = tmp_path / "text"
    file.write_text(TEXT)
    in_text = set(tokenizer.encode(TEXT, add_special_tokens=False))
    always = {0, 1, 2, 5}
    size = len(in_text | always) + 3
    chosen = choose(tokenizer, size, file)
    assert chosen == sorted(chosen)
    assert in_text | always <= set(chosen)
    others = [token for token in range(VOCAB_SIZE) if token not in in_text | always]
    assert set(chosen) - in_text - always == set(others[:3])


def test_what_a_short_text_has_by_chance_does_not_count(tokenizer: Any, tmp_path: Path) -> None:
    file = tmp_path / "text"
    file.write_text(TEXT)
    assert choose(tokenizer, 50, file) == choose(tokenizer, 50)


@pytest.mark.usefixtures("large_text")
def test_of_the_tokens_of_a_text_the_most_frequent_are_kept(tokenizer: Any, tmp_path: Path) -> None:
    (rare, *_), (frequent, *_) = (tokenizer.encode(text) for text in ("z", "q"))
    file = tmp_path / "text"
    file.write_text("z\n" + "q\n" * 5)
    chosen = choose(tokenizer, 6, file)  # the special tokens, line ends, and one more
    assert frequent in chosen
    assert rare not in chosen


def test_without_a_text_the_lowest_ids_are_kept(tokenizer: Any) -> None:
    assert choose(tokenizer, 50) == list(range(50))


@pytest.mark.parametrize("size", [0, -1, VOCAB_SIZE + 1])
def test_a_size_that_cannot_be_cut_is_refused(tokenizer: Any, size: int) -> None:
    with pytest.raises(InvalidInputError, match=f"of {size} tokens cannot be cut from one of 300"):
        choose(tokenizer, size)


def test_special_tokens_need_room(tokenizer: Any) -> None:
    with pytest.raises(InvalidInputError, match="no room for the 4 special tokens"):
        choose(tokenizer, 3)
    assert choose(tokenizer, 4) == [0, 1, 2, 5]


@pytest.mark.parametrize(
    ("contents", "what"), [(b"", "has no text"), (b"\xff\xfe", "cannot be read as UTF-8")]
)
def test_a_file_without_text_is_refused_by_name(
    tokenizer: Any, tmp_path: Path, contents: bytes, what: str
) -> None:
    file = tmp_path / "counts.txt"
    file.write_bytes(contents)
    with pytest.raises(InvalidInputError, match=rf"counts\.txt {what}"):
        choose(tokenizer, 50, file)


@pytest.mark.usefixtures("large_text")
@pytest.mark.parametrize("family", ["llama", "llama_untied"])
@pytest.mark.parametrize("scheme", list(Scheme))
def test_a_cut_bundle_has_the_logits_of_the_whole_one_for_its_tokens(
    tmp_path: Path, family: str, scheme: Scheme
) -> None:
    source = write_tiny_model(tmp_path / "model", family)
    whole = export_bundle(source, tmp_path / "whole", scheme=scheme)
    (tmp_path / "text").write_text(TEXT)
    vocabulary = DraftVocabulary(70, tmp_path / "text")
    cut = export_bundle(source, tmp_path / "cut", scheme=scheme, vocabulary=vocabulary)
    token_ids = Bundle.load(cut.path, verify=True).draft_vocabulary()
    assert token_ids is not None
    assert token_ids != list(range(70))
    expected = OnnxModel(whole).new_sequence().forward(TOKENS)[:, token_ids]
    actual = OnnxModel(cut).new_sequence().forward(TOKENS)
    assert actual.shape == (len(TOKENS), vocabulary.size)
    # With int4 only the 64 best of each are scored with 8 bits, and these are not the same.
    limit = 0.2 if scheme is Scheme.INT4 else 1e-4
    assert np.sqrt(np.mean((actual - expected) ** 2)) < limit * expected.std()
    assert cut.manifest.parity.coverage < whole.manifest.parity.coverage == 1


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_a_proposer_guesses_what_the_whole_drafter_would_were_there_only_these_tokens(
    tmp_path: Path, temperature: float
) -> None:
    source = write_tiny_model(tmp_path / "model")
    torch_model: Any = transformers.AutoModelForCausalLM.from_pretrained(source)
    vocabulary = DraftVocabulary(100)
    bundle = export_bundle(source, tmp_path / "cut", scheme=Scheme.NONE, vocabulary=vocabulary)
    model = OnnxModel(bundle)
    assert model.token_ids is not None
    task = DraftingTask(SamplingParams(temperature=temperature, seed=3), 5, VOCAB_SIZE)
    (guesses,) = LanguageModelProposer(task, model).expand(TOKENS[:8], [[]], 3)
    assert len(guesses.tokens) == WIDTH
    assert set(guesses.tokens) <= set(model.token_ids.tolist())
    logits = torch_model(torch_model.dummy_inputs["input_ids"].new_tensor([TOKENS[:8]])).logits
    scores = logits[0, -1].detach().numpy()
    if not temperature:
        allowed = sorted(model.token_ids.tolist(), key=lambda token: -scores[token])
        assert list(guesses.tokens) == allowed[:WIDTH]
