"""What is compared: the policies of the bench, one line each.

Pure. A plan says where a policy runs and what it is told; who runs it is for others to know.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from outrider_common.errors import ConfigError
from outrider_common.synthetic import SyntheticSpec

BASELINE: Final = "cloud"
"""What every speed-up is taken against, and whose text is compared with; always measured."""

BLOCK_LENGTHS: Final = (2, 4, 8, 12)
"""From which the warm-up takes the fastest, for policies whose block length is tuned."""

FIXED_BLOCK: Final = 4
"""The block length of policies that have blocks, where it is not tuned."""

_TEXT_COMES_ONE_WAY: Final = (
    "No emulated link: text streams one way, so a round trip is added to the first token only."
)


class Place(StrEnum):
    """Where a policy runs."""

    EDGE = "edge"
    """On a core of its own, behind the emulated link."""

    BESIDE = "beside"
    """On the verifier's core, over loopback: ordinary speculative decoding in the data centre."""

    DEVICE = "device"
    """On the verifier's own device, where a synthetic target has one: what asks only reads."""

    TRANSFORMERS = "transformers"
    """On the verifier's core, in Transformers' own `generate`; the verifier is idle."""


@dataclass(frozen=True, slots=True)
class Plan:
    """One policy.

    Attributes:
        name: in requests and results.
        place: where it runs.
        means: the edge's drafting policy, or the way of Transformers.
        drafts: whether anything drafts at all.
        has_blocks: whether it sends blocks of a fixed length.
        is_tuned: the warm-up chooses that length.
        note: what a reader of its figures has to know.
    """

    name: str
    place: Place
    means: str
    drafts: bool = True
    has_blocks: bool = False
    is_tuned: bool = False
    note: str | None = None

    @property
    def is_ours(self) -> bool:
        """Whether the verifier runs it, so that its text is the same as that of `cloud`."""
        return self.place is not Place.TRANSFORMERS

    @property
    def crosses_link(self) -> bool:
        """Whether its messages go through the emulated link."""
        return self.place is Place.EDGE


PLANS: Final = {
    plan.name: plan
    for plan in (
        Plan(BASELINE, Place.EDGE, "cloud", drafts=False),
        Plan("cloud-lookup", Place.EDGE, "cloud-lookup", drafts=False),
        Plan("stop-and-wait", Place.EDGE, "stop-and-wait", has_blocks=True),
        Plan("stop-and-wait-tuned", Place.EDGE, "stop-and-wait", has_blocks=True, is_tuned=True),
        Plan("one-ahead", Place.EDGE, "one-ahead", has_blocks=True),
        Plan("chain", Place.EDGE, "chain"),
        Plan("tree", Place.EDGE, "tree"),
        Plan("auto", Place.EDGE, "auto"),
        Plan(
            "colocated",
            Place.BESIDE,
            "stop-and-wait",
            has_blocks=True,
            is_tuned=True,
            note=_TEXT_COMES_ONE_WAY,
        ),
        Plan("transformers", Place.TRANSFORMERS, "plain", drafts=False, note=_TEXT_COMES_ONE_WAY),
        Plan("assisted", Place.TRANSFORMERS, "assisted", note=_TEXT_COMES_ONE_WAY),
        Plan(
            "assisted-lookup", Place.TRANSFORMERS, "lookup", drafts=False, note=_TEXT_COMES_ONE_WAY
        ),
    )
}
"""The policies, in the order in which they are shown."""


_ON_DEVICE: Final = Plan(
    "colocated",
    Place.DEVICE,
    "cloud-lookup",
    drafts=False,
    note="The verifier's device drafts, between passes, and as many levels as are best for so many "
    f"sessions. {_TEXT_COMES_ONE_WAY}",
)
"""`colocated` where the target is synthetic: it has a device, and that runs the drafter, too."""


def plan_for(name: str, pair: str) -> Plan:
    """The plan of a policy for a pair of target and drafter."""
    plan = PLANS[name]
    is_on_device = plan.place is Place.BESIDE and SyntheticSpec.is_meant_by(pair)
    return _ON_DEVICE if is_on_device else plan


def plans_of(names: tuple[str, ...]) -> tuple[Plan, ...]:
    """The plans of these names, in the order of `PLANS`; the baseline is always among them.

    Raises:
        ConfigError: there is none of a name, or none is named.
    """
    if not names:
        raise ConfigError(f"No policy is named; take some of {', '.join(PLANS)}.")
    for name in names:
        if name not in PLANS:
            raise ConfigError(f"There is no policy '{name}'; take some of {', '.join(PLANS)}.")
    return tuple(plan for name, plan in PLANS.items() if name in names or name == BASELINE)
