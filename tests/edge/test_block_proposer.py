"""The block proposer over a fake draft model, and over a real graph."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from fake_draft_model import FakeDraftModel, FakeSequence
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_models import write_tiny_model

from outrider_common.acceptance import AcceptanceMode, exact_token
from outrider_common.errors import ModelFileError
from outrider_common.sampling import SamplingParams
from outrider_common.settings.edge import EdgeSettings
from outrider_edge import runtime
from outrider_edge.block_proposer import BlockFactory, BlockProposer
from outrider_edge.drawn import drawn_draft
from outrider_edge.language_model import WIDTH, LanguageModelFactory
from outrider_edge.onnx_model import OnnxModel
from outrider_edge.proposer import CONTEXT_END, Draft, DraftingTask
from outrider_edge.ranking import DISTURBANCE
from outrider_export import Scheme, export_bundle

VOCAB_SIZE = 64
MASKS = (60, 61, 62)
GREEDY = SamplingParams()
SAMPLED = SamplingParams(temperature=0.8, presence_penalty=1.0, seed=5)


def task_of(sampling: SamplingParams, mode: AcceptanceMode = AcceptanceMode.EXACT) -> DraftingTask:
    return DraftingTask(sampling, num_prompt_tokens=3, vocab_size=VOCAB_SIZE, acceptance_mode=mode)


def start(
    sampling: SamplingParams = SAMPLED, max_positions: int = 512
) -> tuple[BlockProposer, FakeSequence]:
    model = FakeDraftModel(VOCAB_SIZE, max_positions)
    return BlockFactory(model, MASKS).start(task_of(sampling)), model.sequences[-1]


def logits_after(tokens: Sequence[int]) -> np.ndarray:
    return FakeDraftModel(VOCAB_SIZE).new_sequence().forward(tokens)[-1]


def first_children(draft: Draft) -> list[list[int]]:
    """The indices of the guesses at each depth; each level hangs from the first of the last."""
    levels: list[list[int]] = []
    parent = CONTEXT_END
    while siblings := [i for i, other in enumerate(draft.parents) if other == parent]:
        levels.append(siblings)
        parent = siblings[0]
    assert sum(map(len, levels)) == len(draft.tokens)
    return levels


def top_of(draft: Draft, num_levels: int) -> Draft:
    """The first levels of a draft."""
    end = sum(len(level) for level in first_children(draft)[:num_levels])
    return Draft(draft.tokens[:end], draft.parents[:end], draft.probabilities[:end])


@pytest.mark.parametrize("sampling", [GREEDY, SAMPLED])
def test_each_mask_guesses_what_the_target_would_choose_from_its_logits(
    sampling: SamplingParams,
) -> None:
    proposer, _ = start(sampling)
    text, path = [1, 2, 3, 4], [5, 6]
    (draft,) = proposer.expand(text, [path], 9)
    levels = first_children(draft)
    assert [len(level) for level in levels] == [WIDTH] * (1 + len(MASKS))
    trail = [*text, *path]
    for depth, level in enumerate(levels):
        logits = logits_after([*text, *path, *MASKS[:depth]])
        chosen = exact_token(logits, sampling, len(trail), trail[:3], trail[3:])
        assert draft.tokens[level[0]] == chosen
        trail.append(chosen)


def test_a_guess_carries_its_probability_at_its_own_mask() -> None:
    proposer, _ = start(GREEDY)
    (draft,) = proposer.expand([1, 2, 3], [[]], 9)
    for depth, level in enumerate(first_children(draft)):
        logits = logits_after([1, 2, 3, *MASKS[:depth]]).astype(np.float64)
        weights = np.exp((logits - logits.max()) / DISTURBANCE)
        expected = [weights[draft.tokens[i]] / weights.sum() for i in level]
        assert [draft.probabilities[i] for i in level] == pytest.approx(
            expected, rel=1e-3, abs=1e-6
        )


@pytest.mark.parametrize("sampling", [GREEDY, SAMPLED])
def test_the_first_level_is_that_of_the_language_model(sampling: SamplingParams) -> None:
    block, _ = start(sampling)
    plain = LanguageModelFactory(FakeDraftModel(VOCAB_SIZE)).start(task_of(sampling))
    text = [1, 2, 3]
    for paths in ([[]], [[4], [5]], [[4, 6], [5, 7], [5, 8]], [[4, 6, 9]]):
        drafts = block.expand(text, paths, 3)
        assert [top_of(draft, 1) for draft in drafts] == plain.expand(text, paths, 3)
        assert [draft.depth for draft in drafts] == [3] * len(paths)
        text.append(5)


def test_a_run_is_one_pass_over_what_is_new_and_the_masks() -> None:
    proposer, sequence = start()
    proposer.expand([1, 2, 3], [[]], 4)
    fed, passes = sequence.num_fed, sequence.num_passes
    proposer.expand([1, 2, 3], [[4], [5]], 4)
    assert (sequence.num_fed - fed, sequence.num_passes - passes) == (2 + 2 * len(MASKS), 1)
    proposer.expand([1, 2, 3], [[4, 6]], 2)
    assert sequence.num_fed - fed == 2 + 2 * len(MASKS) + 2  # one new row, one mask


def test_in_rejection_mode_each_level_is_drawn_from_the_logits_at_its_mask() -> None:
    sampling = SamplingParams(temperature=0.9, frequency_penalty=0.5, seed=3)
    task = task_of(sampling, AcceptanceMode.REJECTION)
    proposer = BlockFactory(FakeDraftModel(VOCAB_SIZE), MASKS).start(task)
    (draft,) = proposer.expand([1, 2, 3, 4], [[5]], 3)
    trail = [1, 2, 3, 4, 5]
    for depth, level in enumerate(first_children(draft)):
        logits = logits_after([1, 2, 3, 4, 5, *MASKS[:depth]])
        drawn = drawn_draft(logits, sampling, len(trail), trail[:3], trail[3:], WIDTH)
        assert tuple(draft.tokens[i] for i in level) == drawn.tokens
        assert tuple(draft.drawn_from[i] for i in level) == drawn.drawn_from
        assert tuple(draft.probabilities[i] for i in level) == drawn.probabilities
        trail.append(drawn.tokens[0])


def alone(text: list[int], path: list[int], max_depth: int) -> Draft:
    """What a fresh proposer with room for everything says of one leaf."""
    proposer, _ = start()
    (draft,) = proposer.expand([*text, *path], [()], max_depth)
    return draft


TREES = st.lists(st.lists(st.integers(0, 2), max_size=5), min_size=1, max_size=6)
MOVES = st.lists(st.tuples(st.lists(st.integers(0, 2), max_size=4), TREES), min_size=1, max_size=5)


@settings(max_examples=100, deadline=None)
@given(st.integers(9, 40), st.integers(1, 5), MOVES)
def test_for_any_commits_and_leaves_a_draft_is_the_top_of_that_of_a_fresh_proposer(
    max_positions: int, max_depth: int, moves: list[tuple[list[int], list[list[int]]]]
) -> None:
    proposer, sequence = start(max_positions=max_positions)
    text = [1, 1]
    for committed, paths in moves:
        text += committed
        drafts = proposer.expand(text, paths, max_depth)
        assert not set(MASKS) & {*sequence.tokens, *sequence.row_tokens}
        for path, draft in zip(paths, drafts, strict=True):
            num_levels = len(first_children(draft))
            assert draft == top_of(alone(text, path, max_depth), num_levels)
            assert num_levels <= min(max_depth, max(0, max_positions + 1 - len(text) - len(path)))
        longest = max(paths, key=len)
        (draft,) = proposer.expand(text, [longest], max_depth)
        num_left = max_positions + 1 - len(text) - len(longest)
        assert draft.depth == max(0, min(max_depth, 1 + len(MASKS), num_left))


def test_a_real_graph_gives_the_rows_of_its_masks(tmp_path: Path) -> None:
    masks = [7, 250, 9]
    source = write_tiny_model(tmp_path / "model", mask_token_ids=masks)
    bundle = export_bundle(source, tmp_path / "bundle", scheme=Scheme.NONE)
    assert bundle.manifest.mask_token_ids == tuple(masks)
    model = OnnxModel(bundle)
    task = DraftingTask(GREEDY, 3, bundle.manifest.vocab_size)
    factory = runtime._MAKERS["lm"](EdgeSettings(), bundle)
    assert factory.name == "block"
    proposer = factory.start(task)
    text = [20, 30, 40, 50]
    for paths in ([[]], [[5], [6]], [[5, 8], [6, 9]]):
        for path, draft in zip(paths, proposer.expand(text, paths, 4), strict=True):
            rows = model.new_sequence().forward([*text, *path, *masks])[-4:]
            for level, logits in zip(first_children(draft), rows, strict=True):
                expected = np.argsort(-logits, kind="stable")[:WIDTH].tolist()
                assert [draft.tokens[i] for i in level] == expected
        text.append(paths[-1][0] if paths[-1] else 60)


@pytest.mark.parametrize(
    ("masks", "complaint"),
    [
        ([300], "the mask token 300, but the model reads tokens from 0 to 299"),
        ([7, 7], "the mask token 7 twice"),
        ("seven", "is 'seven': give a list of token ids"),
    ],
)
def test_a_model_with_bad_masks_is_not_exported(
    tmp_path: Path, masks: object, complaint: str
) -> None:
    source = write_tiny_model(tmp_path / "model", mask_token_ids=masks)
    with pytest.raises(ModelFileError, match=complaint):
        export_bundle(source, tmp_path / "bundle", scheme=Scheme.NONE)
