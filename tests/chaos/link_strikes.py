"""What strikes do to the emulated link in front of a verifier."""

from strikes import Strike, StrikeKind

from outrider_bench.faults import Fault, FaultKind
from outrider_bench.link import LinkEmulator
from outrider_bench.profile import Direction


def strike_link(link: LinkEmulator, strike: Strike) -> bool:
    """Do it; False if it is no strike at links."""
    match strike.kind:
        case StrikeKind.RESET:
            link.reset_all()
        case StrikeKind.FREEZE:
            link.freeze(strike.for_s)
        case StrikeKind.HALF_OPEN:
            _injure(link, Fault(FaultKind.HALF_OPEN, at_s=0.0))
        case StrikeKind.CUT_DOWN:
            _injure(link, _cut(Direction.DOWN, strike))
        case StrikeKind.CUT_UP:
            _injure(link, _cut(Direction.UP, strike))
        case _:
            return False
    return True


def _cut(way: Direction, strike: Strike) -> Fault:
    return Fault(FaultKind.CUT, after_bytes=strike.num_bytes, way=way)


def _injure(link: LinkEmulator, fault: Fault) -> None:
    """The connections that there are, and none that come."""
    for connection in list(link.connections.values()):
        connection.inject(fault)
