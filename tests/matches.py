"""Where the end of a text has stood before, found by looking everywhere."""

import itertools

from outrider_common.suffix_index import Match


def matches_by_brute_force(
    tokens: list[int], text: list[int], min_match: int, max_match: int = 32, *, is_own: bool = True
) -> list[Match]:
    """All matches, down to the latest one of the greatest length."""
    found: list[Match] = []
    for end in range(len(tokens) - is_own, 0, -1):
        pairs = zip(reversed(tokens[:end]), reversed(text), strict=False)
        same = sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], pairs))
        if same >= min_match:
            found.append(Match(min(same, max_match), end))
        if same >= max_match:
            break
    return sorted(found, key=lambda match: (-match.length, -match.end))
