"""The payloads in the documentation are what they are said to be."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import json_format

from outrider.v1 import fleet_pb2 as pb
from outrider_edge.fleet.cli import fleet

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "fleet.md").read_text()
EXAMPLES = re.findall(r"(?ms)^```json (\w+)\n(.*?)^```", PAGE)


@pytest.mark.parametrize(("kind", "text"), EXAMPLES, ids=[kind for kind, _ in EXAMPLES])
def test_an_example_is_a_payload_of_its_kind(kind: str, text: str) -> None:
    message: Any = getattr(pb, kind)()
    json_format.Parse(text, message)  # strict: unknown fields are errors here
    assert json_format.MessageToDict(message) == json.loads(text)


def test_every_payload_has_an_example() -> None:
    kinds = set(re.findall(r"\| `(?:P/[^|]*)` \| `(\w+)` \|", PAGE)) | {
        "CommandResult",
        "JobResult",
    }
    assert kinds == {kind for kind, _ in EXAMPLES}


def test_every_command_is_described() -> None:
    described = set(re.findall(r"`outrider fleet ([a-z]+)", PAGE))
    assert described == set(fleet.commands)
