"""The processes behind the players of a pair: who answers for which policy, and by which way.

The composition root of a run. Knows every kind of process, and nothing of rounds or figures.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from typing import Any, Final

from outrider_bench.edge_player import EdgePlayerSettings
from outrider_bench.lineup import Place, Plan
from outrider_bench.machine import Cores
from outrider_bench.measuring import Batch
from outrider_bench.processes import Player, running_link, running_player
from outrider_bench.questions import Play, Played, played_from_json
from outrider_bench.results import Circumstances
from outrider_bench.transformers_player import TransformersPlayerSettings

_MODULES: Final = {
    Place.EDGE: "outrider_bench.edge_player",
    Place.BESIDE: "outrider_bench.edge_player",
    Place.TRANSFORMERS: "outrider_bench.transformers_player",
}
_PLAYED_BY: Final = {Place.DEVICE: Place.EDGE}
"""Where nothing is drafted by who asks, any edge may ask."""

_NAMES: Final = {
    Place.EDGE: "edge",
    Place.BESIDE: "drafter beside the verifier",
    Place.TRANSFORMERS: "Transformers",
}


@dataclass(frozen=True, slots=True)
class Verifiers:
    """Where verifiers listen.

    Attributes:
        plain: the one for all policies but one.
        drafting: the one whose own device drafts; None where no policy needs it.
    """

    plain: str
    drafting: str | None = None


@dataclass(frozen=True, slots=True)
class Crew:
    """The players of one pair.

    Attributes:
        verifiers: where they listen.
        cores: of the processes.
        players: by the place where their policies run.
    """

    verifiers: Verifiers
    cores: Cores
    players: Mapping[Place, Player]

    def encode(self, texts: Sequence[str]) -> list[tuple[int, ...]]:
        """Texts as prompts, by the chat template of the drafter's bundle."""
        if not texts:
            return []  # a synthetic target has no tokenizer
        reply = self.players[Place.EDGE].ask("encode", texts=list(texts))
        return [tuple(prompt) for prompt in reply["prompts"]]

    @contextmanager
    def at(self, place: Circumstances) -> Iterator["CrewAt"]:
        """The players in one place of the grid, with its link."""
        way = (self.verifiers.plain, place.rtt_ms, place.bandwidth_mbps, self.cores.link)
        with running_link(*way) as link:
            yield CrewAt(self, link, place.temperature)
            for player in self.players.values():
                player.ask("leave")


@dataclass(frozen=True, slots=True)
class CrewAt:
    """See `Players`."""

    crew: Crew
    link: str
    temperature: float

    def play(self, plan: Plan, batch: Batch, max_tokens: int, block_nodes: int) -> Played:
        """See `Players`."""
        address = self.link if plan.crosses_link else self._direct(plan)
        play = Play(plan, batch, max_tokens, self.temperature, block_nodes, address)
        player = self.crew.players[_PLAYED_BY.get(plan.place, plan.place)]
        return played_from_json(player.ask("play", play=play.as_json()))

    def _direct(self, plan: Plan) -> str:
        """The way to its verifier without a link."""
        if plan.place is not Place.DEVICE:
            return self.crew.verifiers.plain
        assert self.crew.verifiers.drafting is not None  # or there would be no such plan
        return self.crew.verifiers.drafting


@contextmanager
def running_crew(
    verifiers: Verifiers,
    plans: Sequence[Plan],
    cores: Cores,
    edge: EdgePlayerSettings,
    transformers: TransformersPlayerSettings | None,
) -> Iterator[Crew]:
    """Start the players that the policies need.

    Raises:
        OutriderError: one of them cannot start.
    """
    core_of = {
        Place.EDGE: cores.edge,
        Place.BESIDE: cores.verifier,
        Place.TRANSFORMERS: cores.verifier,
    }
    needed = (_PLAYED_BY.get(plan.place, plan.place) for plan in plans)
    wanted = dict.fromkeys([Place.EDGE, *needed])
    with ExitStack() as stack:
        players = {}
        for place in wanted:
            settings: Any = transformers if place is Place.TRANSFORMERS else edge
            way = (_MODULES[place], asdict(settings), _NAMES[place], core_of[place])
            players[place] = stack.enter_context(running_player(*way))
        yield Crew(verifiers, cores, players)
