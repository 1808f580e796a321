"""Prompt files: what is read, and what is refused."""

import json
from pathlib import Path
from typing import Any

import pytest

from outrider_common.errors import InvalidInputError
from outrider_common.prompts import Prompt, read_prompts


def write(path: Path, *rows: Any) -> Path:
    lines = [row if isinstance(row, str) else json.dumps(row, ensure_ascii=False) for row in rows]
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


def test_a_line_holds_a_prompt_or_turns_or_tokens(tmp_path: Path) -> None:
    file = write(
        tmp_path / "p.jsonl",
        {"prompt": "Why?", "task": "reasons"},
        "",
        {"turns": ["First.", "Second."], "category": "chats"},
        {"tokens": [3, 4]},
    )
    assert read_prompts(file) == [
        Prompt("Why?", None, "reasons"),
        Prompt("First.", None, "chats"),
        Prompt(None, (3, 4), "all"),
    ]


def test_line_separators_inside_a_prompt_do_not_end_its_line(tmp_path: Path) -> None:
    file = write(tmp_path / "p.jsonl", {"prompt": "one\u2028two\x85three"})
    assert read_prompts(file)[0].text == "one\u2028two\x85three"


@pytest.mark.parametrize(
    ("row", "complaint"),
    [
        ("{", "p.jsonl:1 is not a JSON object"),
        ("[1]", "p.jsonl:1 is not a JSON object"),
        ({"question": "Why?"}, "p.jsonl:1 asks nothing"),
        ({"prompt": "  "}, "p.jsonl:1 asks nothing"),
        ({"tokens": [1, "a"]}, "p.jsonl:1 asks nothing"),
        ({"turns": []}, "p.jsonl:1 asks nothing"),
        ("", "hold no prompt"),
    ],
)
def test_a_line_that_asks_nothing_is_named(tmp_path: Path, row: Any, complaint: str) -> None:
    with pytest.raises(InvalidInputError, match=complaint):
        read_prompts(write(tmp_path / "p.jsonl", row))


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match=r"none\.jsonl"):
        read_prompts(tmp_path / "none.jsonl")


def test_a_token_that_the_target_lacks_is_named() -> None:
    with pytest.raises(InvalidInputError, match="token 300, but the target's vocabulary has 300"):
        Prompt(None, (1, 300)).encode(None, 300)
    assert Prompt(None, (1, 299)).encode(None, 300) == (1, 299)
