"""A player with an edge in it: one drafter, and the ways to verifiers that policies take.

Run as a process of its own. Every policy has its own calibration, estimators and connection in each
place of the grid, so that none profits from another; the drafter's weights they share.
"""

import asyncio
import contextlib
import json
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from outrider_bench import json_lines
from outrider_bench.questions import Play, Played, Question, Reply, play_from_json
from outrider_bench.results import Counters
from outrider_common.errors import OutriderError
from outrider_common.sampling import SamplingParams

if TYPE_CHECKING:
    from outrider_edge.generation import GenerationResult
    from outrider_edge.runtime import EdgeRuntime


@dataclass(frozen=True, slots=True)
class EdgePlayerSettings:
    """What the edge drafts with.

    Attributes:
        verifier: where it is, without an emulated link.
        bundle: the drafter's directory; None for a synthetic target.
        proposers: what drafts.
        synthetic: the text of the synthetic target; None for a real one.
        draft_ms: what each level of a synthetic draft takes.
        num_edges: how many of these draft at the same time: each session has one of its own.
    """

    verifier: str
    bundle: str | None
    proposers: tuple[str, ...]
    synthetic: str | None = None
    draft_ms: float = 0.0
    num_edges: int = 1


class EdgePlayer:
    """Generates over any number of lanes; a lane is one policy's way to the verifier.

    Args:
        base: the drafter and a direct way to the verifier.
    """

    def __init__(self, base: "EdgeRuntime") -> None:
        self._base = base
        self._lanes: dict[tuple[object, ...], EdgeRuntime] = {}
        self._links = contextlib.AsyncExitStack()

    async def encode(self, command: Mapping[str, Any]) -> Mapping[str, Any]:
        """Texts as prompts, by the chat template."""
        encode = self._base.tokenizer.encode_chat
        texts = command["texts"]
        return {"prompts": [encode([{"role": "user", "content": text}]) for text in texts]}

    async def play(self, command: Mapping[str, Any]) -> Mapping[str, Any]:
        """Answer the questions of a `Play`, all at once."""
        play = play_from_json(command["play"])
        lane = await self._lane(play)
        began = time.perf_counter()
        replies = await asyncio.gather(*(_reply(lane, play, each) for each in play.questions))
        return Played(tuple(replies), (time.perf_counter() - began) * 1e3).as_json()

    async def leave(self, _command: Mapping[str, Any]) -> Mapping[str, Any]:
        """Forget what was learnt, and hang up: the next place of the grid is another."""
        self._lanes.clear()
        await self._links.aclose()
        return {}

    async def _lane(self, play: Play) -> "EdgeRuntime":
        key = (play.plan.name, play.address, play.block_nodes)
        if key not in self._lanes:
            self._lanes[key] = await self._new_lane(play)
        return self._lanes[key]

    async def _new_lane(self, play: Play) -> "EdgeRuntime":
        from outrider_edge.calibration import Calibration
        from outrider_edge.estimators import Estimators
        from outrider_edge.grpc_link import GrpcLink
        from outrider_edge.policies import POLICIES
        from outrider_edge.simple_proposers import NoneFactory

        link = await self._links.enter_async_context(GrpcLink(play.address))
        info = await link.model_info()  # now, so that no answer pays for the connection
        return replace(
            self._base,
            factory=self._base.factory if play.plan.drafts else NoneFactory(),
            link=link,
            info=info,
            calibration=Calibration(),
            estimators=Estimators(),
            policy=POLICIES[play.plan.means].with_block(play.block_nodes),
        )


async def _reply(lane: "EdgeRuntime", play: Play, question: Question) -> Reply:
    from outrider_edge.generation import GenerationRequest

    sampling = SamplingParams(temperature=play.temperature, seed=question.seed)
    request = GenerationRequest(question.tokens, play.max_tokens, sampling)
    return _measured(await lane.generate(request, lambda _record: None))


def _measured(result: "GenerationResult") -> Reply:
    stats = result.stats
    rows_of_pass = {record.pass_index: record.num_rows for record in result.records}
    return Reply(
        tokens=result.tokens,
        ttft_ms=(stats.time_to_first_token_s or 0.0) * 1e3,
        duration_ms=stats.duration_s * 1e3,
        counters=Counters(
            num_passes=stats.num_passes,
            num_rows=sum(rows_of_pass.values()),
            num_draft_tokens=stats.num_draft_tokens,
            num_accepted_tokens=stats.num_accepted_tokens,
            num_corrections=stats.num_corrections,
            bytes_up=stats.bytes_up,
            bytes_down=stats.bytes_down,
        ),
    )


async def _run(settings: EdgePlayerSettings) -> None:
    replies = json_lines.take_output()
    async with contextlib.AsyncExitStack() as stack:
        try:
            base = await stack.enter_async_context(_base(settings))
        except OutriderError as error:
            json_lines.reply(replies, json_lines.refusal(error))
            return
        player = EdgePlayer(base)
        json_lines.reply(replies, {})
        handlers = {"encode": player.encode, "play": player.play, "leave": player.leave}
        await json_lines.serve(replies, handlers)
        await player.leave({})


def _base(
    settings: EdgePlayerSettings,
) -> contextlib.AbstractAsyncContextManager["EdgeRuntime"]:
    """The drafter, and a direct way to the verifier."""
    if settings.synthetic is not None:
        from outrider_bench.synthetic_edge import synthetic_runtime

        level_s = settings.draft_ms / 1e3
        return synthetic_runtime(settings.verifier, settings.synthetic, level_s, settings.num_edges)
    from outrider_common.settings.edge import EdgeSettings
    from outrider_edge.runtime import edge_runtime
    from outrider_models.bundle import Bundle

    assert settings.bundle is not None
    edge = EdgeSettings(
        verifier=settings.verifier,
        bundle=settings.bundle,
        proposers=settings.proposers,  # type: ignore[arg-type]
    )
    return edge_runtime(edge, Bundle.load(Path(settings.bundle)))


if __name__ == "__main__":
    asyncio.run(_run(EdgePlayerSettings(**json.loads(sys.argv[1]))))
