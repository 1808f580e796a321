"""Compares many tokens, over random policies, sampling and broken links, with plain decoding.

The target is real, in fp32 on the CPU. Every answer, as the edge gave it, is decoded again by
another copy of the target: no drafts, one row of each text a pass. One answer of each round is
decoded once more, alone. `make exactness` prints what differs, with the logit gap.
"""

import argparse
import asyncio
import contextlib
import json
import logging
import random
import sys
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import get_args

from plain_decoding import PlainDecoding

from outrider_bench.link import LinkEmulator
from outrider_bench.profile import LinkProfile
from outrider_cloud.server import build_engine, running_server
from outrider_cloud.shadow import FinishedText
from outrider_cloud.target_loading import load_target
from outrider_common.acceptance import ExactRule
from outrider_common.prompts import read_prompts
from outrider_common.sampling import SamplingParams
from outrider_common.settings.edge import DraftingPolicyName, EdgeSettings, ProposerName
from outrider_common.settings.verifier import VerifierSettings
from outrider_edge.generation import GenerationRequest
from outrider_edge.runtime import EdgeRuntime, edge_runtime
from outrider_models.bundle import Bundle
from outrider_models.store import ModelStore, default_root

NUM_EDGES = 3
NUM_ANSWERS_OF_EACH = 8
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

PATIENCE_S = 600.0
"""Of an edge: on a busy machine the prompts of a round alone may take longer than by default."""


class Run:
    """Answers, until enough tokens were compared."""

    def __init__(self, decoding: PlainDecoding, alone: PlainDecoding, seed: int, out: Path) -> None:
        self._decoding = decoding
        self._alone = alone
        self._out = out
        store = ModelStore(default_root())
        self._bundle = Bundle.load(store.resolve_bundle(EdgeSettings().bundle))
        self._coins = random.Random(seed)
        self._prompts = [prompt.text or "" for prompt in read_prompts(PROMPTS)]
        self._counts: Counter[str] = Counter()

    async def until(self, num_tokens: int, address: str) -> None:
        """Rounds of many answers at once, by several edges of different kinds."""
        while self._decoding.stats.num_tokens < num_tokens:
            policies = self._coins.sample(get_args(DraftingPolicyName), NUM_EDGES)
            rounds = [self._ask(address, policy) for policy in policies]
            texts = [text for texts in await asyncio.gather(*rounds) for text in texts]
            await asyncio.to_thread(self._decoding.compare, texts)
            await asyncio.to_thread(self._alone.compare, [self._coins.choice(texts)])
            self._keep()
            print(f"\r{self._decoding.stats.num_tokens} tokens ...", end="", file=sys.stderr)

    @property
    def found(self) -> dict[str, float]:
        """What was found so far."""
        alone = {f"alone_{name}": value for name, value in asdict(self._alone.stats).items()}
        return asdict(self._decoding.stats) | alone | dict(sorted(self._counts.items()))

    def _keep(self) -> None:
        """Write down what was found so far: a run takes long."""
        self._out.write_text(json.dumps(self.found, indent=2) + "\n")

    async def _ask(self, address: str, policy: DraftingPolicyName) -> list[FinishedText]:
        """Answers by one edge."""
        async with self._an_edge(address, policy) as edge:
            return await asyncio.gather(*(self._answer(edge) for _ in range(NUM_ANSWERS_OF_EACH)))

    @contextlib.asynccontextmanager
    async def _an_edge(
        self, address: str, policy: DraftingPolicyName
    ) -> AsyncIterator[EdgeRuntime]:
        """An edge of any kind, over a link that is reset now and then."""
        profile = LinkProfile(rtt_s=self._coins.choice((0.0, 0.01, 0.05)))
        async with LinkEmulator(profile, address) as link:
            settings = EdgeSettings(
                verifier=link.address,
                proposers=self._coins.choice(_proposers_for(policy)),
                policy=policy,
                connect_timeout_s=PATIENCE_S,
                resume_timeout_s=PATIENCE_S,
            )
            self._counts[f"policy {policy}"] += NUM_ANSWERS_OF_EACH
            async with edge_runtime(settings, self._bundle) as edge:
                resetting = asyncio.create_task(self._reset(link), name="resets")
                yield edge
                resetting.cancel()

    async def _reset(self, link: LinkEmulator) -> None:
        while True:
            await asyncio.sleep(self._coins.expovariate(1 / MEAN_S_BETWEEN_RESETS))
            link.reset_all()
            self._counts["resets"] += 1

    async def _answer(self, edge: EdgeRuntime) -> FinishedText:
        text = self._coins.choice(self._prompts)
        prompt = edge.tokenizer.encode_chat([{"role": "user", "content": text}])[
            -MAX_PROMPT_TOKENS:
        ]
        sampling = self._sampling()
        request = GenerationRequest(tuple(prompt), MAX_TOKENS, sampling, ignore_eos=True)
        delivered: list[int] = []
        result = await edge.generate(request, lambda record: delivered.append(record.token))
        assert tuple(delivered) == result.tokens
        self._counts["answers"] += 1
        self._counts["tokens delivered"] += len(delivered)
        self._counts["drafted tokens"] += result.stats.num_accepted_tokens
        self._counts["resumed sessions"] += result.stats.num_resumes
        whole = (*prompt, *result.tokens)
        return FinishedText(whole, len(prompt), len(prompt), ExactRule(sampling))

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


def _proposers_for(policy: DraftingPolicyName) -> Sequence[tuple[ProposerName, ...]]:
    """All, but for stop-and-wait, which is made for drafters that always have a guess."""
    if policy != "stop-and-wait":
        return PROPOSERS
    return [names for names in PROPOSERS if "lm" in names]


async def run(num_tokens: int, seed: int, out: Path) -> dict[str, float]:
    """Compare so many tokens; gives what was found."""
    store = ModelStore(default_root())
    settings = VerifierSettings(max_waiting_sessions=64)
    engine = build_engine(settings, store)
    model = store.resolve_model(settings.model)
    another = load_target(settings, model, store.root / "kernels")
    engine.warm_up(settings.rows_per_pass)
    engine.start()
    try:
        async with running_server(engine, "127.0.0.1", 0) as port:
            whole = Run(PlainDecoding(another), PlainDecoding(another), seed, out)
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
    sys.exit(found["num_mismatches"] + found["alone_num_mismatches"] > 0)


if __name__ == "__main__":
    main()
