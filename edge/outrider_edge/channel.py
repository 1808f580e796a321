"""The channel to one verifier: TLS, who we are, and another channel where that is needed.

When the files change, or nothing comes any more (gRPC itself notices a silent connection only after
its keepalive time), calls begun from then on go over a new channel; the old one is closed when its
last call is over. Knows nothing of messages.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import grpc

from outrider.v1.verifier_pb2_grpc import VerifierServiceStub
from outrider_common.watched_files import WatchedValue
from outrider_edge.link_security import NO_SECURITY, Credentials, LinkSecurity

Options = Sequence[tuple[str, Any]]
Metadata = Sequence[tuple[str, str]]

_PROXY_OFF: Final = ("grpc.enable_http_proxy", 0)
"""In plain text a token goes to this machine itself, and to no proxy on the way."""

_TROUBLES: Final = {
    "Hostname Verification Check failed": (
        "its certificate is made out for another name; set edge.tls_server_name to the one that it "
        "has, or edge.verifier to an address by that name."
    ),
    "certificate has expired": (
        "its certificate has expired; renew it there, or set this machine's clock."
    ),
    "certificate is not yet valid": (
        "its certificate is not valid yet; set this machine's clock, or the verifier's."
    ),
    "CERTIFICATE_VERIFY_FAILED": (
        "its certificate is from an authority that nobody here trusts; set edge.tls_ca to that "
        "authority's certificate."
    ),
    "WRONG_VERSION_NUMBER": (
        "it speaks no TLS; set verifier.tls_certificate there, or take edge.tls and edge.tls_ca "
        "away."
    ),
}
"""What gRPC says where TLS does not come about, and what it means."""


@dataclass(slots=True, eq=False)
class _Line:
    """A channel, and how many calls it has."""

    channel: grpc.aio.Channel
    stub: Any
    num_calls: int = 0


class VerifierChannel:
    """A channel that follows its files.

    Args:
        address: host:port.
        options: of gRPC. Channels must not share connections (`grpc.use_local_subchannel_pool`).
        security: where the files are.

    Raises:
        ConfigError: a file cannot be used, or a token would travel in plain text.
    """

    def __init__(
        self, address: str, options: Options, security: LinkSecurity = NO_SECURITY
    ) -> None:
        security.refuse_exposure(address)
        self._address = address
        self._security = security
        self._options = tuple(options)
        self._watched = WatchedValue[Credentials](security.paths, security.read)
        self._shown = self._watched.value
        self._newest = self._connect()
        self._lines = {self._newest}
        self._closing: set[asyncio.Task[None]] = set()
        self.number = 0
        """How often it was renewed."""

    def call(self, method: str, *arguments: Any, metadata: Metadata = (), **options: Any) -> Any:
        """Begin a call, by the name that the method has on the wire.

        Raises:
            AttributeError: there is no such method.
        """
        self._follow_files()
        line = self._newest
        token = self._shown.token
        shown = (("authorization", f"Bearer {token}"),) if token else ()
        call = getattr(line.stub, method)(*arguments, metadata=(*metadata, *shown), **options)
        line.num_calls += 1
        call.add_done_callback(lambda _call: self._hang_up(line))
        return call

    def renew(self, number: int) -> None:
        """Let calls that begin from now on go over a new connection.

        Args:
            number: what `number` was when the call that was in vain began; nothing is done if the
                channel has been renewed since.
        """
        if number == self.number:
            self._renew()

    async def close(self) -> None:
        """Close everything; calls that are not over are cancelled."""
        for line in self._lines:
            await line.channel.close(None)
        await asyncio.gather(*self._closing)

    def explain(self, details: str) -> str | None:
        """What a failure to connect means, if TLS has to do with it; one sentence."""
        for said, meaning in _TROUBLES.items():
            if said in details:
                return f"The verifier at {self._address} cannot be trusted: {meaning}"
        if "Socket closed" not in details:
            return None
        if self._security.files is None:
            return (
                f"The verifier at {self._address} hangs up at once; if it speaks TLS, set "
                "edge.tls_ca or edge.tls."
            )
        return (
            f"The verifier at {self._address} hangs up on our TLS; if it asks edges for a "
            "certificate, set edge.tls_certificate and edge.tls_key to one that it trusts."
        )

    def _follow_files(self) -> None:
        if not self._watched.refresh():
            return
        before, self._shown = self._shown, self._watched.value
        if self._shown.tls != before.tls:
            self._renew()

    def _renew(self) -> None:
        self.number += 1
        old, self._newest = self._newest, self._connect()
        self._lines.add(self._newest)
        self._close_if_idle(old)

    def _connect(self) -> _Line:
        channel = open_channel(self._address, self._security, self._shown, self._options)
        return _Line(channel, VerifierServiceStub(channel))  # type: ignore[no-untyped-call]

    def _hang_up(self, line: _Line) -> None:
        line.num_calls -= 1
        self._close_if_idle(line)

    def _close_if_idle(self, line: _Line) -> None:
        """Close a channel that is not the newest when it has no calls any more."""
        if line is self._newest or line.num_calls or line not in self._lines:
            return
        self._lines.discard(line)
        task = asyncio.get_running_loop().create_task(line.channel.close(None), name="close-old")
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)


def open_channel(
    address: str, security: LinkSecurity, shown: Credentials, options: Options = ()
) -> grpc.aio.Channel:
    """A channel with the certificates that were read.

    Args:
        address: host:port.
        security: what they were read from.
        shown: what was read.
        options: of gRPC.
    """
    tls, name = shown.tls, security.server_name
    if tls is None:
        no_proxy = (_PROXY_OFF,) if shown.token else ()
        return grpc.aio.insecure_channel(address, options=(*options, *no_proxy))
    names = (("grpc.ssl_target_name_override", name), ("grpc.default_authority", name))
    credentials = grpc.ssl_channel_credentials(tls.authorities, tls.key, tls.certificate)
    return grpc.aio.secure_channel(
        address, credentials, options=(*options, *(names if name else ()))
    )
