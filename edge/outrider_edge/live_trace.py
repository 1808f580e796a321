"""What happens in a generation as JSON, for those who watch it: the `outrider.events` of a stream.

Pure. All times are seconds since the generation began. Knows nothing of who watches, or of HTTP.
"""

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from outrider_common.generation_trace import DraftSpan, NodeTrace, PassTrace
from outrider_common.records import TokenRecord
from outrider_edge.tracing import SessionOpened, TraceEvent
from outrider_edge.unverified import UnverifiedToken

Json = dict[str, Any]

TextOf = Callable[[int], str]
"""What a token reads as alone."""


def event_json(event: TraceEvent | TokenRecord | UnverifiedToken, text_of: TextOf) -> Json:
    """One event; `kind` says which."""
    match event:
        case SessionOpened():
            return {"kind": "opened"} | asdict(event)
        case DraftSpan():
            return {"kind": "draft"} | asdict(event)
        case NodeTrace(decided_at_s=None):
            return _node_json(event, text_of)
        case NodeTrace():
            fate = {"fate": event.fate.value, "decided_at_s": event.decided_at_s}
            return {"kind": "fate", "node_id": event.node_id} | fate
        case PassTrace():
            return _pass_json(event)
        case TokenRecord():
            return {"kind": "token"} | event.as_json()
        case UnverifiedToken():
            return {"kind": "unverified"} | asdict(event)


def _node_json(node: NodeTrace, text_of: TextOf) -> Json:
    """A node when it is sent: what becomes of it comes later."""
    said = asdict(node) | {"text": text_of(node.token)}
    del said["fate"], said["decided_at_s"]
    return {"kind": "node"} | said


def _pass_json(commit: PassTrace) -> Json:
    """A pass; the events of its tokens say what they read as."""
    said = asdict(commit)
    del said["texts"]
    return {"kind": "pass"} | said
