"""An engine around the target in memory, and the message that opens a session with it."""

import threading
from typing import Any

from fake_target import FakeTarget

from outrider.v1 import verifier_pb2 as pb
from outrider_cloud.batching_engine import BatchingEngine
from outrider_cloud.scheduler import PackingLimits, PackingScheduler
from outrider_common.messages import PROTOCOL_VERSION, Limits


def an_engine(
    gate: threading.Event | None = None, *, num_running: int = 3, **options: Any
) -> BatchingEngine:
    """Not started yet.

    Args:
        gate: while it is not set, no pass comes to an end.
        num_running: sessions at the same time.
        options: further ones of the engine.
    """
    return BatchingEngine(
        FakeTarget(gate=gate),
        a_scheduler(),
        model="fake",
        tokenizer_fingerprint="v1:fake",
        limits=Limits(
            max_message_bytes=2048,
            max_outstanding_nodes=8,
            committed_id_window=64,
            max_sessions=num_running,
        ),
        **options,
    )


def a_scheduler() -> PackingScheduler:
    return PackingScheduler(
        PackingLimits(
            rows_per_pass=32,
            max_nodes_per_session=4,
            prefill_chunk_tokens=16,
            max_credit=8,
            max_draft_wait_s=0.0,
        )
    )


def an_open(prefix: list[int] | None = None, **changes: Any) -> pb.SessionRequest:
    prefix = [1, 2, 3] if prefix is None else prefix
    sampling = pb.SamplingParams(top_p=1, repetition_penalty=1)
    fields: dict[str, Any] = {
        "protocol_version": PROTOCOL_VERSION,
        "tokenizer_fingerprint": "v1:fake",
        "acceptance_mode": pb.ACCEPTANCE_MODE_EXACT,
        "sampling": sampling,
        "num_prompt_tokens": len(prefix),
        "max_tokens": 12,
        "prefix_length": len(prefix),
        "prefix": prefix,
        "ignore_eos": True,
    }
    return pb.SessionRequest(open=pb.Open(**(fields | changes)))
