"""What the settings make of the edge."""

from typing import Any

import pytest

from outrider_common.sampling import SamplingParams
from outrider_common.settings.edge import EdgeSettings
from outrider_edge import runtime
from outrider_edge.policies import POLICIES
from outrider_edge.proposer import DraftingTask, ProposerFactory
from outrider_edge.runtime import offered_policies

TASK = DraftingTask(SamplingParams(), num_prompt_tokens=1, vocab_size=1000)
NO_BUNDLE: Any = None


def make(name: Any, settings: EdgeSettings) -> ProposerFactory:
    return runtime._MAKERS[name](settings, NO_BUNDLE)


@pytest.mark.parametrize("name", ["retrieval", "recycling", "garbage", "none"])
def test_a_proposer_without_a_model_is_made_by_its_name(name: str) -> None:
    assert make(name, EdgeSettings()).name == name


@pytest.mark.parametrize(("memory_tokens", "expected"), [(0, ()), (100, (4, 5))])
def test_retrieval_remembers_as_much_as_the_settings_say(
    memory_tokens: int, expected: tuple[int, ...]
) -> None:
    factory = make("retrieval", EdgeSettings(retrieval_memory_tokens=memory_tokens))
    factory.start(TASK).expand([1, 2, 3, 4, 5], [()], 1)  # over as soon as nobody holds it
    assert factory.start(TASK).expand([9, 2, 3], [()], 2)[0].tokens == expected


def test_where_no_drafter_is_loaded_only_policies_without_one_are_offered() -> None:
    assert set(offered_policies(EdgeSettings())) == set(POLICIES)
    assert set(offered_policies(EdgeSettings(policy="cloud"))) == {"cloud", "cloud-lookup"}


def test_blocks_are_as_long_as_the_settings_say() -> None:
    assert offered_policies(EdgeSettings(block_nodes=7))["stop-and-wait"].block_nodes == 7
