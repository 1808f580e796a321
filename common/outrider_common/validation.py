"""Says in a few words what is wrong with a document that was checked against its fields."""

from pydantic import ValidationError


def first_problem(error: ValidationError) -> str:
    """Where the first problem is, and what: `cells.0.tokens: Field required`."""
    first = error.errors()[0]
    place = ".".join(map(str, first["loc"])) or "the document"
    return f"{place}: {first['msg']}"
