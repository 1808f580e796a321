"""Compares many tokens, over random policies, sampling and broken links, with plain decoding.

The target is real, in fp32 on the CPU. Every text is decoded again by the verifier's shadow: one
sequence alone, one row a pass, no drafts. `make exactness` prints what differs, with the logit gap.
"""

import argparse
import asyncio
import contextlib
import json
import logging
import random
import sys
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import get_args

from outrider_bench.link import LinkEmulator
from outrider_bench.profile import LinkProfile
from outrider_cloud.batching_engine import BatchingEngine
from outrider_cloud.server import build_engine, running_server
from outrider_common.config import (
    DraftingPolicyName,
    EdgeSettings,
    ProposerName,
    VerifierSettings,
)
from outrider_common.prompts import read_prompts
from outrider_common.sampling import SamplingParams
from outrider_edge.generation import GenerationRequest
from outrider_edge.runtime import EdgeRuntime, edge_runtime
from outrider_models.bundle import Bundle
from outrider_models.store import ModelStore, default_root

NUM_AT_ONCE = 4
MAX_TOKENS = 256
MAX_PROMPT_TOKENS = 200
PROMPTS = Path(__file__).parent.parent / "data" / "spec_bench_even.jsonl"
PROPOSERS: tuple[tuple[ProposerName, ...], ...] = (
    ("lm",),
    ("garbage",),
    ("retrieval", "recycling"),
    ("retrieval", "lm"),
)
MEAN_S_BETWEEN_RESETS = 20.0
"""Of each link."""


class Run:
    """Answers, until enough tokens were compared."""

    def __init__(self, engine: BatchingEngine, store: ModelStore, seed: int, out: Path) -> None:
        self._engine = engine
        self._out = out
        self._bundle = Bundle.load(store.resolve_bundle(EdgeSettings().bundle))
        self._coins = random.Random(seed)
        self._prompts = [prompt.text or "" for prompt in read_prompts(PROMPTS)]
        self._counts: Counter[str] = Counter()

    async def until(self, num_tokens: int, address: str) -> None:
        """Rounds of some answers at once, each round with other policies."""
        while self._engine.stats.shadow.num_tokens < num_tokens:
            async with self._an_edge(address) as edge:
                asking = [self._answer(edge) for _ in range(NUM_AT_ONCE)]
                await asyncio.gather(*asking)
            await self._shadow_is_idle()
            self._keep()
            print(f"\r{self._engine.stats.shadow.num_tokens} tokens ...", end="", file=sys.stderr)

    @property
    def found(self) -> dict[str, float]:
        """What was found so far."""
        return asdict(self._engine.stats.shadow) | dict(sorted(self._counts.items()))

    def _keep(self) -> None:
        """Write down what was found so far: a run takes hours."""
        self._out.write_text(json.dumps(self.found, indent=2) + "\n")

    @contextlib.asynccontextmanager
    async def _an_edge(self, address: str) -> AsyncIterator[EdgeRuntime]:
        """An edge of any kind, over a link that is reset now and then."""
        profile = LinkProfile(rtt_s=self._coins.choice((0.0, 0.01, 0.05)))
        async with LinkEmulator(profile, address) as link:
            settings = EdgeSettings(
                verifier=link.address,
                proposers=self._coins.choice(PROPOSERS),
                policy=self._coins.choice(get_args(DraftingPolicyName)),
            )
            self._counts[f"policy {settings.policy}"] += NUM_AT_ONCE
            async with edge_runtime(settings, self._bundle) as edge:
                resetting = asyncio.create_task(self._reset(link), name="resets")
                yield edge
                resetting.cancel()

    async def _reset(self, link: LinkEmulator) -> None:
        while True:
            await asyncio.sleep(self._coins.expovariate(1 / MEAN_S_BETWEEN_RESETS))
            link.reset_all()
            self._counts["resets"] += 1

    async def _answer(self, edge: EdgeRuntime) -> None:
        text = self._coins.choice(self._prompts)
        prompt = edge.tokenizer.encode_chat([{"role": "user", "content": text}])[
            -MAX_PROMPT_TOKENS:
        ]
        request = GenerationRequest(tuple(prompt), MAX_TOKENS, self._sampling())
        delivered: list[int] = []
        result = await edge.generate(request, lambda record: delivered.append(record.token))
        assert tuple(delivered) == result.tokens
        self._counts["answers"] += 1
        self._counts["tokens delivered"] += len(delivered)
        self._counts["drafted tokens"] += result.stats.num_accepted_tokens
        self._counts["resumed sessions"] += result.stats.num_resumes

    def _sampling(self) -> SamplingParams:
        coins = self._coins
        sampling = SamplingParams(
            temperature=coins.choice((0.0, 0.0, 0.7, 1.0)), seed=coins.getrandbits(64)
        )
        if coins.random() < 0.3:
            sampling = replace(sampling, top_p=0.9, top_k=coins.choice((0, 50)))
        if coins.random() < 0.2:
            sampling = replace(sampling, repetition_penalty=1.1, presence_penalty=0.3)
        return sampling

    async def _shadow_is_idle(self) -> None:
        before = None
        while (now := self._engine.stats.shadow) != before:
            before = now
            await asyncio.sleep(3.0)


async def run(num_tokens: int, seed: int, out: Path) -> dict[str, float]:
    """Compare so many tokens; gives what was found."""
    store = ModelStore(default_root())
    settings = VerifierSettings(shadow_rate=1.0, max_waiting_sessions=64)
    engine = build_engine(settings, store)
    engine.warm_up(settings.rows_per_pass)
    engine.start()
    try:
        async with running_server(engine, "127.0.0.1", 0) as port:
            whole = Run(engine, store, seed, out)
            await whole.until(num_tokens, f"127.0.0.1:{port}")
    finally:
        engine.stop()
    return whole.found


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tokens", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("build/exactness.json"))
    chosen = parser.parse_args()
    logging.disable()
    chosen.out.parent.mkdir(parents=True, exist_ok=True)
    found = asyncio.run(run(chosen.tokens, chosen.seed, chosen.out))
    print("\r" + json.dumps(found, indent=2))
    sys.exit(found["num_mismatches"] > 0)


if __name__ == "__main__":
    main()
