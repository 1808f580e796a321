"""Health of a verifier: a port that tells it without TLS, and the question whether all is well.

Kubernetes' own gRPC probes know no TLS. Knows nothing of what makes a verifier healthy.
"""

import contextlib
from collections.abc import AsyncIterator
from typing import Any, Final

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from outrider_cloud.binding import bind
from outrider_cloud.handlers import SERVICE_NAME
from outrider_common.errors import UnavailableError

MAX_HEALTH_BYTES: Final = 1024
"""The largest question about health."""

_OPTIONS: Final = (
    ("grpc.so_reuseport", 0),
    ("grpc.max_receive_message_length", MAX_HEALTH_BYTES),
)


@contextlib.asynccontextmanager
async def health_port(servicer: Any, host: str, port: int | None) -> AsyncIterator[int | None]:
    """A gRPC server that answers health checks and nothing else; yields its port.

    Args:
        servicer: the verifier's health servicer.
        host: address to listen on.
        port: 0 for any free one; None for no such server.

    Raises:
        PortInUseError: the address cannot be listened on.
    """
    if port is None:
        yield None
        return
    server = grpc.aio.server(options=_OPTIONS)
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    bound = bind(
        server,
        host,
        port,
        purpose="answer health checks",
        remedy="choose another one with --health-port.",
    )
    await server.start()
    try:
        yield bound
    finally:
        await server.stop(None)


def ask_health(address: str, timeout_s: float) -> None:
    """Ask a verifier whether it serves.

    Args:
        address: host:port, of the port without TLS.
        timeout_s: how long it may take to answer.

    Raises:
        UnavailableError: it does not serve, or does not answer.
    """
    with grpc.insecure_channel(address) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        try:
            request = health_pb2.HealthCheckRequest(service=SERVICE_NAME)
            response = stub.Check(request, timeout=timeout_s)
        except grpc.RpcError as error:
            code = error.code().name  # the errors of calls are calls
            raise UnavailableError(
                f"No verifier answers health checks at {address} ({code}): see whether one runs "
                "there, and name its health port if it has one."
            ) from error
    if response.status != health_pb2.HealthCheckResponse.SERVING:
        raise UnavailableError(
            f"The verifier at {address} takes no sessions: it is starting or draining."
        )
