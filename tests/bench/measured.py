"""Rounds and requests as tests want them."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from outrider_bench.results import Answer, Circumstances, Counters, Machine, Request, Round

PLACE = Circumstances(pair="pair", rtt_ms=50.0, bandwidth_mbps=None, sessions=1, temperature=0.0)

REQUEST = Request(
    target="target",
    pairs=("pair",),
    policies=("chain",),
    rtt_ms=(0.0, 50.0),
    bandwidth_mbps=(None,),
    sessions=(1,),
    temperatures=(0.0,),
    prompt_file="prompts.jsonl 0123456789ab",
    num_prompts=2,
    tokens=32,
    rounds=2,
    warm_up=1,
    seed=0,
    proposers=("lm",),
)

MACHINE = Machine(
    cpu="a processor",
    num_cores=2,
    system="Linux",
    versions={"outrider": "1"},
    pinned={"verifier": 0, "edge": 1, "link": 1},
    load_before=0.1,
)


def answer(
    policy: str, *, prompt: int = 0, tokens: int = 33, decode_ms: float = 1000.0, **changes: Any
) -> Answer:
    """An answer whose first token took a tenth of a second."""
    plain = Answer(
        policy=policy,
        prompt=prompt,
        task="task",
        tokens=tokens,
        ttft_ms=100.0,
        duration_ms=100.0 + decode_ms,
        batch_ms=100.0 + decode_ms,
        mismatches=0,
        counters=Counters(
            num_passes=tokens,
            num_rows=tokens,
            num_draft_tokens=0,
            num_accepted_tokens=0,
            num_corrections=0,
            bytes_up=0,
            bytes_down=0,
        ),
    )
    return replace(plain, **changes)


def a_round(
    answers: Sequence[Answer], *, place: Circumstances = PLACE, index: int = 0, **changes: Any
) -> Round:
    plain = Round(
        circumstances=place, index=index, load=0.5, block_nodes={}, answers=tuple(answers)
    )
    return replace(plain, **changes)
