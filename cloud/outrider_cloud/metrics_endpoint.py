"""The address under which Prometheus reads a verifier's metrics.

A small HTTP server on a thread of its own, apart from the one that edges reach. Knows nothing of
which metrics there are.
"""

import contextlib
import logging
from collections.abc import Iterator

from prometheus_client import CollectorRegistry, ProcessCollector, start_http_server
from prometheus_client.registry import Collector

from outrider_common import log
from outrider_common.errors import PortInUseError

_logger = logging.getLogger(__name__)


@contextlib.contextmanager
def offered_metrics(collector: Collector, host: str, port: int | None) -> Iterator[int | None]:
    """Metrics at http://host:port/metrics as long as the context lasts; yields the port.

    Args:
        collector: what there is to tell; the process's own figures are added.
        host: address to listen on.
        port: 0 for any free one; None to offer nothing.

    Raises:
        PortInUseError: the address cannot be listened on.
    """
    if port is None:
        yield None
        return
    registry = CollectorRegistry(auto_describe=False)
    registry.register(collector)
    ProcessCollector(registry=registry)
    try:
        server, thread = start_http_server(port, host, registry)
    except OSError as error:
        raise PortInUseError(
            f"Cannot offer metrics on {host}:{port} ({(error.strerror or str(error)).lower()}); "
            "choose another address with --metrics-port or --metrics-host."
        ) from error
    log.event(_logger, "metrics_offered", host=host, port=server.server_port)
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
