"""What a connection and the streams on it may ask of a verifier's patience.

Turns settings into options of gRPC. Knows nothing of sessions.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Self

from outrider_common.settings.verifier import VerifierSettings


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """How long things may take.

    Attributes:
        slow_reader_s: for an edge to read what waits for it; 0: for ever.
        max_age_s: after which a connection takes no more sessions; 0: it grows old.
        grace_s: for which its sessions may go on then.
    """

    slow_reader_s: float = 0.0
    max_age_s: float = 0.0
    grace_s: float = 0.0

    @classmethod
    def of(cls, settings: VerifierSettings) -> Self:
        """As the settings say."""
        return cls(
            settings.slow_reader_s, settings.max_connection_age_s, settings.connection_grace_s
        )

    @property
    def options(self) -> Sequence[tuple[str, Any]]:
        """For a gRPC server, which varies ages by a tenth so that not all end at once."""
        if not self.max_age_s:
            return ()
        return (
            ("grpc.max_connection_age_ms", round(self.max_age_s * 1000)),
            ("grpc.max_connection_age_grace_ms", round(self.grace_s * 1000)),
        )


NO_LIMITS: Final = ConnectionLimits()
"""Endless patience: for tests."""
