"""Nothing is lost, whatever breaks: a short run of random fault histories; `make chaos` is long."""

from typing import Any

import pytest
from arena import Arena, an_arena, reference
from chaos import play
from strikes import Strike, StrikeKind

from outrider_common.sampling import SamplingParams
from outrider_edge.answer import Answer
from outrider_edge.generation import GenerationRequest

SEEDS_THAT_FOUND_SOMETHING = (5, 100, 122, 134, 10700, 20307)
"""A session was opened over a connection whose other end was gone, and nobody noticed; in the last
two, it was gone before the connection was whole."""

SOME_MORE = range(3000, 3008)


@pytest.mark.parametrize("seed", [*SEEDS_THAT_FOUND_SOMETHING, *SOME_MORE])
async def test_no_promise_is_broken(seed: int) -> None:
    outcome = await play(seed)
    assert outcome.complaints == []
    assert outcome.operations


async def test_a_broken_promise_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """By an edge that forgets, after each break, the last token that it has told."""
    whole: Any = Answer.__dict__["prefix"].fget

    def forgetful(answer: Answer) -> tuple[int, ...]:
        prefix: tuple[int, ...] = whole(answer)
        return prefix[:-1] if answer.records else prefix

    monkeypatch.setattr(Answer, "prefix", property(forgetful))
    outcomes = [await play(seed) for seed in SEEDS_THAT_FOUND_SOMETHING]
    assert any(outcome.complaints for outcome in outcomes)


async def test_every_kind_of_strike_is_undone() -> None:
    async with an_arena(1, seed=0) as arena:
        for kind in StrikeKind:
            await arena.strike(Strike(0.0, kind, 0, 0.01, 1))
        await _still_answers(arena)


async def _still_answers(arena: Arena) -> None:
    request = GenerationRequest((1, 2, 3), 12, SamplingParams(), ignore_eos=True)
    result = await arena.edge.generate(request, lambda _record: None)
    assert result.tokens == reference((1, 2, 3), 12, SamplingParams())
