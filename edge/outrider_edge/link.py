"""The seam between a generation and the way to its verifier.

The real link is gRPC (`grpc_link`); tests put anything behind the same seam. Knows nothing of
drafting.
"""

from collections.abc import Sequence
from typing import Protocol

from outrider_common.messages import ModelInfo, OpenSession, ServerEvent
from outrider_common.tree import DraftNode
from outrider_edge.estimators import Estimators


class SessionLink(Protocol):
    """One session's stream. Errors of the other side and of the network are `OutriderError`s."""

    @property
    def estimators(self) -> Estimators | None:
        """What is learnt of the verifier that it goes to; None: the link has only one."""
        ...

    @property
    def bytes_up(self) -> int:
        """Bytes sent so far, with the framing of each message."""
        ...

    @property
    def bytes_down(self) -> int:
        """Bytes received so far, with the framing of each message."""
        ...

    async def extend(self, nodes: Sequence[DraftNode]) -> None:
        """Send draft nodes; waits while the network is slower than the drafter."""
        ...

    async def cancel(self) -> None:
        """Tell the verifier that no more tokens are wanted."""
        ...

    async def ping(self) -> None:
        """Ask whether the verifier is there; only one that `opened` says will answer."""
        ...

    async def receive(self) -> ServerEvent | None:
        """The verifier's next event; None when it has ended the stream.

        Raises:
            OutriderError: the verifier refused the session, or the link broke.
        """
        ...

    def close(self) -> None:
        """Give the stream up, whatever state it is in."""
        ...

    def give_up(self) -> None:
        """Close it because nothing comes any more; further sessions shall not go the same way."""
        ...


class VerifierLink(Protocol):
    """The way to a verifier, or to one of several."""

    @property
    def has_alternative(self) -> bool:
        """Whether another verifier than the one that failed, or asked to leave, takes sessions."""
        ...

    async def model_info(self, timeout_s: float | None = None) -> ModelInfo:
        """The target, the limits, and how busy the verifier is.

        Args:
            timeout_s: how long it may take to answer; None: as long as the link allows.

        Raises:
            OutriderError: the verifier is not there or does not answer.
        """
        ...

    async def open(self, message: OpenSession, max_message_bytes: int) -> SessionLink:
        """Begin a session; the verifier's answer comes as the first event."""
        ...
