"""Results of a bench that nobody ran: a full grid, and figures that follow the formulas."""

from collections.abc import Iterable
from typing import Any

from outrider_bench.formulas import Formulas, Pace
from outrider_bench.results import VERSION, BenchResults, Cell, Machine, Quantiles, Request

RTTS = (0.0, 10.0, 20.0, 50.0, 100.0, 200.0, 400.0)
POLICIES = ("cloud", "stop-and-wait-tuned", "colocated", "chain", "auto")
PAIRS = ("smollm2-135m-int8", "smollm2-135m-int4")
FORMULAS = {
    PAIRS[0]: Formulas(Pace(0.013, 0.039, ""), 0.032, 0.97),
    PAIRS[1]: Formulas(Pace(0.0076, 0.039, ""), 0.032, 0.8),
}


def a_speedup(pair: str, policy: str, rtt_ms: float) -> float:
    formulas = FORMULAS[pair]
    chain = formulas.chain(rtt_ms / 1e3)
    return {
        "cloud": 1.0,
        "stop-and-wait-tuned": formulas.stop_and_wait(rtt_ms / 1e3),
        "colocated": 1.4,
        "chain": 0.8 * chain,
        "auto": max(1.02, 0.95 * chain),
    }.get(policy, 1.0)


def an_acceptance(pair: str, policy: str, rtt_ms: float) -> float | None:
    """Guesses of others than a chain, and those that travel far, are less often right."""
    less = 0.0 if policy == "chain" else 0.1
    return None if policy == "cloud" else FORMULAS[pair].acceptance - less - rtt_ms / 1e4


def a_cell(
    pair: str, policy: str, rtt_ms: float, sessions: int = 1, temperature: float = 0, **changes: Any
) -> Cell:
    speedup = a_speedup(pair, policy, rtt_ms)
    rate = 30.0 * speedup
    figures: dict[str, Any] = {
        "pair": pair,
        "rtt_ms": rtt_ms,
        "bandwidth_mbps": None,
        "sessions": sessions,
        "temperature": temperature,
        "policy": policy,
        "rounds": 3,
        "prompts": 12,
        "tokens": 4608,
        "tokens_per_s": rate,
        "tokens_per_s_min": rate * 0.95,
        "tokens_per_s_max": rate * 1.05,
        "end_to_end_tokens_per_s": rate * 0.9,
        "total_tokens_per_s": rate * sessions**0.7,
        "total_tokens_per_s_min": rate * sessions**0.7 * 0.95,
        "total_tokens_per_s_max": rate * sessions**0.7 * 1.05,
        "ttft_ms": Quantiles(p50=80 + rtt_ms, p95=120 + rtt_ms, p99=150 + rtt_ms),
        "tpot_ms": Quantiles(p50=1e3 / rate, p95=1.2e3 / rate, p99=1.5e3 / rate),
        "speedup_vs_cloud": speedup,
        "speedup_vs_cloud_min": speedup * 0.95,
        "speedup_vs_cloud_max": speedup * 1.05,
        "end_to_end_speedup_vs_cloud": speedup * 0.97,
        "speedup_by_task": {"translation": speedup * 1.1, "maths": speedup * 0.9},
        "acceptance_rate": an_acceptance(pair, policy, rtt_ms),
        "tokens_per_pass": 2.5,
        "rows_per_token": 1.6,
        "draft_nodes_per_token": 1.4,
        "wasted_fraction": 0.3,
        "bytes_up_per_token": 9.0,
        "bytes_down_per_token": 11.0,
        "exact": True,
        "mismatches": 0,
    }
    return Cell(**(figures | changes))


def some_results(cells: Iterable[Cell] | None = None, **changes: Any) -> BenchResults:
    """A full grid, or these cells."""
    grid = [
        a_cell(pair, policy, rtt_ms, sessions, temperature)
        for pair in PAIRS
        for temperature in (0.0, 1.0)
        for rtt_ms in RTTS
        for sessions in ((1, 2, 4) if rtt_ms == 50 else (1,))
        for policy in POLICIES
    ]
    request = Request(
        target="smollm2-135m",
        pairs=PAIRS,
        policies=POLICIES,
        rtt_ms=RTTS,
        bandwidth_mbps=(None,),
        sessions=(1, 2, 4),
        temperatures=(0.0, 1.0),
        prompt_file="spec_bench_even.jsonl, SHA-256 0123456789",
        num_prompts=12,
        tokens=128,
        rounds=3,
        seed=0,
        warm_up=2,
        proposers=("lm",),
    )
    machine = Machine(
        cpu="a processor",
        num_cores=2,
        system="Linux x86_64",
        versions={"python": "3.11", "outrider": "0.1.0"},
        pinned={"verifier": 0, "edge": 1},
        load_before=0.1,
    )
    figures: dict[str, Any] = {
        "version": VERSION,
        "measured_at": "2026-11-21T12:00:00+00:00",
        "finished": True,
        "machine": machine,
        "request": request,
        "cells": tuple(grid if cells is None else cells),
    }
    return BenchResults(**(figures | changes))
