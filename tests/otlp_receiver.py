"""A real receiver of OTLP over HTTP, to which processes send their spans."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.trace.v1.trace_pb2 import Span

PATH = "/v1/traces"


@dataclass
class Received:
    """What has come in.

    Attributes:
        endpoint: where spans are to be sent.
        spans: by the name of the service that sent them.
    """

    endpoint: str
    spans: dict[str, list[Span]] = field(default_factory=dict)

    def take(self, request: ExportTraceServiceRequest) -> None:
        """Keep the spans of one message."""
        for one in request.resource_spans:
            names = {kv.key: kv.value.string_value for kv in one.resource.attributes}
            for scope in one.scope_spans:
                self.spans.setdefault(names["service.name"], []).extend(scope.spans)


@contextmanager
def otlp_receiver() -> Iterator[Received]:
    """A receiver on a free port of loopback."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            known = self.path == PATH and "content-encoding" not in self.headers
            if known:
                received.take(ExportTraceServiceRequest.FromString(body))
            self.send_response(200 if known else 404)
            self.end_headers()
            self.wfile.write(ExportTraceServiceResponse().SerializeToString())

        def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
            """Nothing: the test says what is wrong."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    received = Received(f"http://127.0.0.1:{server.server_address[1]}{PATH}")
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield received
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
