"""The link emulator: a TCP relay between whoever connects to it and one target.

Accepts, connects, and keeps the connections that there are; what becomes of their bytes is theirs.
"""

import asyncio
import logging
import math
from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import Final, Self

from outrider_bench.faults import Fault
from outrider_bench.link_connection import LinkConnection
from outrider_bench.link_stats import LinkStats
from outrider_bench.profile import LinkProfile
from outrider_common import log
from outrider_common.errors import ConfigError, PortInUseError

LOOPBACK: Final = "127.0.0.1:0"
CONNECT_TIMEOUT_S: Final = 10.0

_TURNS_TO_ACCEPT: Final = 3
"""Turns of the event loop from an accepted socket to its protocol's `connection_made`."""

_logger = logging.getLogger(__name__)


class LinkEmulator:
    """A link with a round trip, jitter, bandwidth, loss and faults in front of a target.

        async with LinkEmulator(LinkProfile(rtt_s=0.1), "127.0.0.1:7411") as link:
            ...  # connect to link.address
            link.freeze(0.5)

    What befalls the n-th packet of one way of the n-th connection is a function of the seed. Which
    bytes are a packet, and when it is sent, is up to who sends them: bytes that are read together
    are cut every 1448, and what is sent apart may be read together on a busy machine. Each
    connection has the whole bandwidth for itself.

    Args:
        profile: what the link is like.
        target: host:port that connections are relayed to.
        listen: host:port to listen on; port 0 takes any free one.
        seed: another seed, other jitter and loss.
        faults: what happens to connections, and when.

    Raises:
        ConfigError: an address is none.
    """

    def __init__(
        self,
        profile: LinkProfile,
        target: str,
        *,
        listen: str = LOOPBACK,
        seed: int = 0,
        faults: Iterable[Fault] = (),
    ) -> None:
        self.profile = profile
        self._target = split_address("The target", target)
        self._listen = split_address("The address to listen on", listen)
        self._seed = seed
        self._faults = list(faults)
        self._num_accepted = 0
        self._frozen_until_s = -math.inf
        self._connections: dict[int, LinkConnection] = {}
        self._arrivals: dict[int, asyncio.Future[LinkConnection]] = {}
        self._connecting: dict[int, asyncio.Task[None]] = {}
        self._ended = LinkStats()
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> Self:
        """Listen.

        Raises:
            PortInUseError: the address cannot be listened on.
        """
        host, port = self._listen
        try:
            self._server = await asyncio.get_running_loop().create_server(self._accept, host, port)
        except OSError as error:
            raise PortInUseError(
                f"Cannot listen on {joined_address(host, port)}: the port is in use or the "
                "address is not this machine's; choose another (port 0 takes any free one)."
            ) from error
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Listen no more, and reset all connections."""
        assert self._server is not None
        await self._stop_accepting(self._server)
        connecting = list(self._connecting.values())
        self.reset_all()
        await asyncio.gather(*connecting, return_exceptions=True)
        for arrival in self._arrivals.values():
            arrival.cancel()
        await self._server.wait_closed()

    @property
    def address(self) -> str:
        """Where it listens, host:port."""
        assert self._server is not None
        host, port = self._server.sockets[0].getsockname()[:2]
        return joined_address(host, port)

    @property
    def connections(self) -> Mapping[int, LinkConnection]:
        """The connections that there are, by number: 1 was accepted first."""
        return self._connections

    @property
    def stats(self) -> LinkStats:
        """What went over all connections, those included that are over."""
        total = LinkStats()
        for stats in (self._ended, *(each.stats for each in self._connections.values())):
            total.add(stats)
        return total

    async def connection(self, number: int) -> LinkConnection:
        """Wait until the connection of that number has been accepted.

        Raises:
            LookupError: it is over already.
        """
        if number in self._connections:
            return self._connections[number]
        if number <= self._num_accepted:
            raise LookupError(f"connection {number} is over")
        arrival = self._arrivals.setdefault(number, asyncio.Future())
        return await asyncio.shield(arrival)

    def inject(self, fault: Fault) -> None:
        """Let a fault happen to the connections that there are and to all that come."""
        self._faults.append(fault)
        for number, connection in list(self._connections.items()):
            if fault.concerns(number):
                connection.inject(fault)

    def freeze(self, for_s: float = math.inf) -> None:
        """Let nothing through for a while, or until `thaw`; also of connections that come."""
        until_s = asyncio.get_running_loop().time() + for_s
        self._frozen_until_s = max(self._frozen_until_s, until_s)
        for connection in self._connections.values():
            connection.freeze(for_s)

    def thaw(self) -> None:
        """End all freezes: everything goes on where it was."""
        self._frozen_until_s = -math.inf
        for connection in self._connections.values():
            connection.thaw()

    def reset_all(self) -> None:
        """Reset all connections."""
        for connection in list(self._connections.values()):
            connection.reset()

    async def _stop_accepting(self, server: asyncio.Server) -> None:
        """Close the server when those that it is about to accept are connections."""
        for listening in server.sockets:
            asyncio.get_running_loop().remove_reader(listening.fileno())
        for _ in range(_TURNS_TO_ACCEPT):
            await asyncio.sleep(0)
        server.close()

    def _accept(self) -> asyncio.BaseProtocol:
        """The protocol of the socket that was accepted."""
        self._num_accepted += 1
        connection = LinkConnection(
            self._num_accepted, self.profile, self._seed, self._open, self._over
        )
        return connection.near

    def _open(self, connection: LinkConnection) -> None:
        number = connection.number
        self._connections[number] = connection
        left_s = self._frozen_until_s - asyncio.get_running_loop().time()
        if left_s > 0:
            connection.freeze(left_s)
        for fault in self._faults:
            if fault.concerns(number):
                connection.inject(fault)
        name = f"link-{number}-connects"
        self._connecting[number] = asyncio.create_task(self._connect(connection), name=name)
        if number in self._arrivals:
            self._arrivals.pop(number).set_result(connection)
        log.event(_logger, "link_connection_opened", connection=number)

    async def _connect(self, connection: LinkConnection) -> None:
        """Connect to the target; if it cannot be reached, reset who connected."""
        host, port = self._target
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                await asyncio.get_running_loop().create_connection(
                    lambda: connection.far, host, port
                )
        except OSError as error:  # a timeout is one, too
            log.event(
                _logger,
                "link_target_unreachable",
                level=logging.WARNING,
                connection=connection.number,
                target=joined_address(host, port),
                why=str(error) or "it does not answer",
            )
            connection.reset()
        finally:
            self._connecting.pop(connection.number, None)

    def _over(self, connection: LinkConnection) -> None:
        number = connection.number
        if number not in self._connections:
            return
        del self._connections[number]
        if number in self._connecting:
            self._connecting[number].cancel()
        stats = connection.stats
        self._ended.add(stats)
        log.event(
            _logger,
            "link_connection_over",
            connection=number,
            num_bytes_up=stats.up.num_bytes,
            num_bytes_down=stats.down.num_bytes,
            mean_delay_up_s=stats.up.mean_delay_s,
            mean_delay_down_s=stats.down.mean_delay_s,
        )


def split_address(what: str, address: str) -> tuple[str, int]:
    """Host and port of an address; an IPv6 address stands in brackets.

    Raises:
        ConfigError: it is no address.
    """
    host, _, port = address.rpartition(":")
    is_bare_ipv6 = ":" in host and not (host.startswith("[") and host.endswith("]"))
    if not host or is_bare_ipv6 or not port.isdecimal() or int(port) > 65535:
        raise ConfigError(f"{what} is '{address}'; write HOST:PORT, such as 127.0.0.1:7411.")
    return host.removeprefix("[").removesuffix("]"), int(port)


def joined_address(host: str, port: int) -> str:
    """An address as one writes it."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
