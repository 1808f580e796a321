"""How an answer is made, beside what it says: under which policy, and whether the client watches.

The field `outrider` of a request. Pure; knows nothing of HTTP, and of policies only their names.
"""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

from outrider_edge.json_fields import Fields, shown
from outrider_edge.openai_errors import BadRequestError
from outrider_edge.policies import POLICIES

FIELD: Final = "outrider"


@dataclass(frozen=True, slots=True)
class Handling:
    """What a client asks of Outrider itself.

    Attributes:
        policy: drafts as this one says; None: as the daemon does.
        is_traced: the stream tells everything that happens, when it does.
    """

    policy: str | None = None
    is_traced: bool = False

    def check_policy(self, offered: Collection[str]) -> None:
        """Refuse a policy that cannot be had here.

        Raises:
            BadRequestError: naming those that can.
        """
        if self.policy is not None and self.policy not in offered:
            raise BadRequestError(
                f"{FIELD}.policy is {shown(self.policy)}, but this daemon has loaded no drafter, "
                f"as its own policy needs none; use one of {', '.join(offered)}, or start it with "
                "another --policy.",
                f"{FIELD}.policy",
            )


AS_USUAL: Final = Handling()
"""As one who asks for nothing is served."""


def parse_handling(body: Fields, *, stream: bool) -> Handling:
    """The field `outrider` of a request's body.

    Raises:
        BadRequestError: naming what is wrong in it.
    """
    value = body.take(FIELD)
    if value is None:
        return AS_USUAL
    fields = Fields(value, FIELD)
    policy, is_traced = fields.text("policy"), fields.switch("trace")
    if policy is not None and policy not in POLICIES:
        fields.refuse("policy", policy, f"one of {', '.join(POLICIES)}")
    if is_traced and not stream:
        raise BadRequestError(
            f"{FIELD}.trace has a meaning only with stream; leave it out.", f"{FIELD}.trace"
        )
    fields.finish()
    return Handling(policy, is_traced)
