"""The hint by which proxies bring together what begins alike."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from outrider_common.messages import OpenSession
from outrider_common.sampling import SamplingParams
from outrider_edge.prefix_affinity import METADATA_KEY, NUM_TOKENS, affinity_metadata

tokens = st.integers(0, 2**31)


def hint(prefix: list[int], num_prompt_tokens: int | None = None) -> str:
    message = OpenSession(
        prefix=tuple(prefix),
        num_prompt_tokens=num_prompt_tokens or len(prefix),
        max_tokens=8,
        sampling=SamplingParams(),
        tokenizer_fingerprint="v1:any",
    )
    ((key, value),) = affinity_metadata(message)
    assert key == METADATA_KEY
    return value


@given(
    st.lists(tokens, min_size=NUM_TOKENS, max_size=NUM_TOKENS), st.lists(tokens), st.lists(tokens)
)
def test_prompts_that_begin_alike_have_the_same_hint(
    beginning: list[int], one: list[int], other: list[int]
) -> None:
    assert hint(beginning + one) == hint(beginning + other)


@given(st.lists(tokens, min_size=1), st.lists(tokens))
def test_a_resumed_session_keeps_its_hint(prompt: list[int], committed: list[int]) -> None:
    assert hint(prompt + committed, len(prompt)) == hint(prompt)


def test_prompts_that_begin_otherwise_are_spread() -> None:
    hints = Counter(hint([number, 5, 6, 7]) for number in range(2000))
    assert len(hints) > 1900  # of 65,536 values; fewer than this has a chance below 1e-9
    assert all(len(value) == 4 for value in hints)
