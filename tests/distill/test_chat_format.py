"""How a chat template frames a question."""

from pathlib import Path

import pytest
from tiny_models import train_tokenizer

from outrider_common.errors import ModelFileError, UnsupportedError
from outrider_distill.chat_format import chat_format, load_tokenizer


def test_a_framed_question_is_what_the_template_makes_of_it(tiny_dir: Path) -> None:
    tokenizer = load_tokenizer(tiny_dir)
    question = "What is a fox?"
    framed = chat_format(tokenizer).framed(tokenizer.encode(question, add_special_tokens=False))
    whole = tokenizer.apply_chat_template(
        [{"role": "user", "content": question}], add_generation_prompt=True, tokenize=False
    )
    assert tokenizer.decode(framed) == whole


def test_a_target_without_a_chat_template_is_refused() -> None:
    tokenizer = train_tokenizer()
    tokenizer.chat_template = None
    with pytest.raises(UnsupportedError, match="no chat template"):
        chat_format(tokenizer)


@pytest.mark.parametrize("template", ["nothing", "{{ messages[0]['content'] }}"])
def test_a_template_that_frames_nothing_is_refused(template: str) -> None:
    tokenizer = train_tokenizer()
    tokenizer.chat_template = template
    with pytest.raises(UnsupportedError, match="does not frame"):
        chat_format(tokenizer)


def test_a_directory_without_a_tokenizer_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match="cannot be loaded"):
        load_tokenizer(tmp_path)
