"""What is said of a document that does not fit its fields."""

from dataclasses import dataclass

import pytest
from pydantic import TypeAdapter, ValidationError

from outrider_common.validation import first_problem


@dataclass
class Shelf:
    books: list[int]


@pytest.mark.parametrize(
    ("document", "start"),
    [({"books": [1, "two"]}, "books.1: "), ({}, "books: "), (7, "the document: ")],
)
def test_the_place_of_the_first_problem_is_named(document: object, start: str) -> None:
    with pytest.raises(ValidationError) as caught:
        TypeAdapter(Shelf).validate_python(document)
    assert first_problem(caught.value).startswith(start)
