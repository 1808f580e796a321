"""Coverage-guided fuzzing of what turns bytes into values: `make fuzz-guided`.

Runs libFuzzer through atheris, which installs on Linux with CPython 3.11: `pip install atheris`.
Begins with good messages. Inputs that reached new code are kept in build/fuzz, and an input that
broke something is written there before the run ends.
"""

import json
import sys
from pathlib import Path
from typing import Any

import atheris

with atheris.instrument_imports(include=["outrider_common", "outrider_edge"]):
    from outrider_common.errors import OutriderError
    from outrider_common.settings.sampling import SamplingSettings
    from outrider_common.wire import EventDecoder, OpenAssembler
    from outrider_common.wire_nodes import NodeDecoder
    from outrider_edge.json_fields import parse_json
    from outrider_edge.openai_requests import parse_chat_request, parse_completion_request

from api_client import HI
from fake_engine import an_open
from google.protobuf.message import DecodeError

from outrider.v1 import verifier_pb2 as pb


def read_from_edge(data: bytes) -> None:
    """Messages of one session, as the verifier reads them."""
    assembler, nodes = OpenAssembler(lambda _length: None), NodeDecoder()
    for request in _messages(pb.SessionRequest, data):
        if request.WhichOneof("message") == "extend":
            nodes.decode(request.extend)
        else:
            assembler.feed(request)


def read_from_verifier(data: bytes) -> None:
    """Answers in one session, as the edge reads them."""
    decoder = EventDecoder(3)
    for response in _messages(pb.SessionResponse, data):
        decoder.decode(response)


def read_from_program(data: bytes) -> None:
    """A request to the daemon."""
    parse = parse_chat_request if data[:1] < b"\x80" else parse_completion_request
    parse(parse_json(data[1:]), SamplingSettings(), lambda: 0)


READERS = {"edge": read_from_edge, "verifier": read_from_verifier, "program": read_from_program}


def _messages(kind: Any, data: bytes) -> Any:
    """Messages, each after a byte that says how long it is."""
    while data:
        length = data[0]
        yield kind.FromString(data[1 : 1 + length])
        data = data[1 + length :]


def _packed(*messages: Any) -> bytes:
    parts = [message.SerializeToString() for message in messages]
    return b"".join(bytes([len(part)]) + part for part in parts)


def _good_inputs(name: str) -> list[bytes]:
    match name:
        case "edge":
            extend = pb.Extend(parent_position=2, tokens=[4, 5, 6], later_distances=[1, 1])
            drawn = pb.Extend(
                tokens=[4],
                distributions=[pb.DraftDistribution(token_steps=[4, 1], weights=b"\x05\x09")],
            )
            extends = [pb.SessionRequest(extend=message) for message in (extend, drawn)]
            return [_packed(an_open(), *extends), _packed(an_open(prefix_length=9))]
        case "verifier":
            commits = [
                pb.Commit(tokens=[1, 2, 3], num_accepted=2, credit=8, price_permille=9),
                pb.Commit(start=6, tokens=[4], num_rows=7, pass_us=90, queue_us=4, runner_ups=[5]),
            ]
            return [_packed(*(pb.SessionResponse(commit=commit) for commit in commits))]
    chat = HI | {"temperature": 0.5, "stop": ["a"], "n": 2, "stream": True, "logit_bias": None}
    text = {"model": "fake", "prompt": ["Hi", [1, 2]], "max_tokens": 4, "top_p": 0.5}
    return [b"c" + json.dumps(chat).encode(), b"\xff" + json.dumps(text).encode()]


def main() -> None:
    """Fuzz the reader that is named first; all else is for libFuzzer."""
    name = sys.argv.pop(1)
    corpus = Path("build/fuzz", name)
    corpus.mkdir(parents=True, exist_ok=True)
    for i, data in enumerate(_good_inputs(name)):
        (corpus / f"good-{i}").write_bytes(data)

    def test_one_input(data: bytes) -> None:
        try:
            READERS[name](data)
        except (OutriderError, DecodeError) as error:
            if not str(error):
                raise AssertionError("an error without a sentence") from error

    atheris.Setup([*sys.argv, f"-artifact_prefix=build/fuzz/{name}-", str(corpus)], test_one_input)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
