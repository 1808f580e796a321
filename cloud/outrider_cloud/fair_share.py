"""Max-min fair shares of rows, and whose turn it is for a row that cannot be divided.

Two levels: between tenants first, then between the sessions of a tenant. Pure; its only memory is
whose turn it is. Knows nothing of what the rows are for.
"""

from collections.abc import Collection, Container, Hashable, Mapping
from itertools import islice
from typing import TypeVar

_Key = TypeVar("_Key", bound=Hashable)


class Turns:
    """Whose turn it is: whoever was served longest ago; newcomers come last."""

    def __init__(self) -> None:
        self._queue: dict[Hashable, None] = {}

    def meet(self, present: Collection[Hashable]) -> None:
        """Forget those who have left, and line up those who are new."""
        staying = (key for key in self._queue if key in present)
        self._queue = dict.fromkeys(staying) | dict.fromkeys(present)

    def take(self, count: int, eligible: Container[Hashable]) -> list[Hashable]:
        """Serve the first `count` who are eligible; those go to the end, all others stay."""
        taken = list(islice((key for key in self._queue if key in eligible), count))
        for key in taken:
            del self._queue[key]
            self._queue[key] = None
        return taken


class MaxMinShare:
    """Max-min fair shares: whoever wants more has at most one row fewer than anybody else has.

    Bertsekas and Gallager, Data Networks (1992), section 6.5.2, for whole rows: every want is
    filled up to a common level, and rows that are left over go round in turn. The turns make it
    fair over time: whoever is left short in calls with budgets F1, F2, ..., one of at most N that
    are there, is given floor((F1 + F2 + ...) / N) rows meanwhile at least, whoever comes and goes.
    """

    def __init__(self) -> None:
        self._turns = Turns()

    def share(self, wants: Mapping[_Key, int], budget: int) -> dict[_Key, int]:
        """Share `budget` rows out.

        Args:
            wants: rows that each one can use. One that wants none now keeps its place in the turns.
            budget: rows to share, 0 or more.

        Returns:
            The rows of each one, all of `wants` included; together the budget, or all wants.
        """
        if sum(wants.values()) <= budget:
            return dict(wants)
        self._turns.meet(wants)
        level = water_level(wants.values(), budget)
        num_odd = budget - sum(min(want, level) for want in wants.values())
        hungry = {key for key, want in wants.items() if want > level}
        odd = set(self._turns.take(num_odd, hungry))
        return {key: min(want, level) + (key in odd) for key, want in wants.items()}


class TenantShare:
    """Max-min fair shares of tenants, and of the sessions of each tenant in its share."""

    def __init__(self) -> None:
        self._between_tenants = MaxMinShare()
        self._within: dict[Hashable, MaxMinShare] = {}

    def share(
        self, wants: Mapping[_Key, int], tenant_of: Mapping[_Key, Hashable], budget: int
    ) -> dict[_Key, int]:
        """Share `budget` rows out.

        Args:
            wants: rows that each session can use. One that wants none now keeps its place in the
                turns, and so does its tenant.
            tenant_of: the tenant of each session.
            budget: rows to share, 0 or more.

        Returns:
            The rows of each session, all of `wants` included; together the budget, or all wants.
        """
        if sum(wants.values()) <= budget:
            return dict(wants)
        by_tenant: dict[Hashable, dict[_Key, int]] = {}
        for key, want in wants.items():
            by_tenant.setdefault(tenant_of[key], {})[key] = want
        totals = {tenant: sum(own.values()) for tenant, own in by_tenant.items()}
        budgets = self._between_tenants.share(totals, budget)
        self._within = {tenant: self._within.get(tenant) or MaxMinShare() for tenant in by_tenant}
        shares: dict[_Key, int] = {}
        for tenant, own in by_tenant.items():
            shares |= self._within[tenant].share(own, budgets[tenant])
        return shares


def water_level(wants: Collection[int], budget: int) -> int:
    """The highest whole level up to which every want can be filled within `budget` rows."""
    num_left = len(wants)
    for want in sorted(wants):
        if want * num_left > budget:
            return budget // num_left
        budget -= want
        num_left -= 1
    return max(wants, default=0)
