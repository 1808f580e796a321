"""How an answer is made and told, beside what it says: by which policy, and to what kind of client.

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
        takes_corrections: the client takes text back that it was told as unverified.
    """

    policy: str | None = None
    is_traced: bool = False
    takes_corrections: bool = False

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
    takes_corrections = fields.switch("corrections")
    for name, is_wanted in (("trace", is_traced), ("corrections", takes_corrections)):
        if is_wanted and not stream:
            raise BadRequestError(
                f"{FIELD}.{name} has a meaning only with stream; leave it out.", f"{FIELD}.{name}"
            )
    fields.finish()
    return Handling(policy, is_traced, takes_corrections)
