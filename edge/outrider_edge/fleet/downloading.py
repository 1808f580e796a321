"""Downloads a file over https; one that broke off goes on where it was.

A server that is silent, slow, or sends too much is not borne with, and another thread may end it at
any moment. Knows nothing of what the file is for. Blocks: run it in a thread.
"""

import contextlib
import http.client
import re
import socket
import ssl
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

from outrider_common.errors import ConfigError, UnavailableError
from outrider_edge.fleet.rollout import BadDrafterError

_CHUNK_BYTES: Final = 1 << 16
_CONTENT_RANGE: Final = re.compile(r"bytes (\d+)-\d+/(\d+)")


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a server is borne with.

    Attributes:
        connect_s: until it has taken the connection.
        silence_s: while it sends nothing.
        window_s: in so many seconds,
        window_bytes: it sends so much at least.
    """

    connect_s: float = 10.0
    silence_s: float = 30.0
    window_s: float = 60.0
    window_bytes: int = 64 << 10


class Transfer:
    """A download that another thread may end, also while it waits for the server."""

    def __init__(self) -> None:
        self._is_given_up = threading.Event()
        self._socket: socket.socket | None = None

    def give_up(self) -> None:
        """End it."""
        self._is_given_up.set()
        self._hang_up()

    def runs_over(self, connection: socket.socket) -> None:
        """This is the connection to hang up."""
        self._socket = connection
        if self._is_given_up.is_set():
            self._hang_up()

    def go_on(self) -> None:
        """See whether it may.

        Raises:
            UnavailableError: it was given up.
        """
        if self._is_given_up.is_set():
            raise UnavailableError("The download was given up; offer the drafter again.")

    def _hang_up(self) -> None:
        if self._socket:
            with contextlib.suppress(OSError):  # it may be over already
                self._socket.shutdown(socket.SHUT_RDWR)


@dataclass(frozen=True, slots=True)
class Download:
    """What is to be downloaded, and what may become of it.

    Attributes:
        uri: with https.
        max_bytes: the largest file that is taken.
        ca_file: certificates by which the server may be known, beside the system's.
        patience: with the server.
    """

    uri: str
    max_bytes: int
    ca_file: Path | None = None
    patience: Patience = Patience()

    def to(self, target: Path, transfer: Transfer) -> None:
        """Write the file, after what is there of it.

        Raises:
            BadDrafterError: it is too large, or its address leads elsewhere.
            UnavailableError: it could not be read to its end; what came is kept for another time.
        """
        with _sentences(self.uri, transfer):
            try:
                self._go_on(target, transfer)
            except _OtherFileError:
                target.unlink()
                raise

    def _go_on(self, target: Path, transfer: Transfer) -> None:
        num_here = target.stat().st_size if target.exists() else 0
        with contextlib.closing(self._asked(num_here, transfer)) as response:
            begin, num_bytes = _extent(response, num_here)
            self._refuse_above_limit(num_bytes or 0)
            with target.open("ab" if begin else "wb") as file:
                num_read = self._copy(response, file, begin, transfer)
        transfer.go_on()
        if num_bytes is not None and num_read < num_bytes:
            raise OSError(f"it broke off after {num_read} of {num_bytes} bytes")

    def _asked(self, num_here: int, transfer: Transfer) -> http.client.HTTPResponse:
        """The response to a request for what is missing."""
        request = urllib.request.Request(self.uri)
        if num_here:
            request.add_header("Range", f"bytes={num_here}-")
        secured = _Https(_context(self.ca_file), transfer, self.patience)
        opener = urllib.request.build_opener(_NoDowngrade, secured)
        try:
            response: http.client.HTTPResponse = opener.open(request)
        except urllib.error.HTTPError as error:
            if error.code == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
                raise _OtherFileError("what is here already is no part of it") from error
            raise
        return response

    def _copy(
        self, source: http.client.HTTPResponse, file: IO[bytes], begin: int, transfer: Transfer
    ) -> int:
        """Write what comes; returns how long the file is then."""
        num_read, pace = begin, _Pace(self.patience)
        while chunk := source.read1(_CHUNK_BYTES):
            transfer.go_on()
            num_read += len(chunk)
            self._refuse_above_limit(num_read)
            pace.note(len(chunk))
            _write(file, chunk)
        return num_read

    def _refuse_above_limit(self, num_bytes: int) -> None:
        if num_bytes > self.max_bytes:
            raise too_large(self.uri, self.max_bytes)


def too_large(uri: str, max_bytes: int) -> BadDrafterError:
    """A drafter above the limit."""
    return BadDrafterError(
        f"The drafter at {uri} has more than {max_bytes} bytes; raise fleet.max_bundle_mib on the "
        "device if it may."
    )


def unreadable(uri: str, error: Exception) -> UnavailableError:
    """A drafter that cannot be read now, as a sentence."""
    return UnavailableError(
        f"The drafter at {uri} cannot be read ({_why(error)}); see that it is there and can be "
        "reached from the device."
    )


class _OtherFileError(OSError):
    """What is here is not the beginning of what is there."""


class _Pace:
    """Whether enough has come of late."""

    def __init__(self, patience: Patience) -> None:
        self._patience = patience
        self._since_s = time.monotonic()
        self._num_bytes = 0

    def note(self, num_bytes: int) -> None:
        """So much has come; raises an `OSError` where it is too little."""
        self._num_bytes += num_bytes
        passed_s = time.monotonic() - self._since_s
        if passed_s < self._patience.window_s:
            return
        if self._num_bytes < self._patience.window_bytes:
            raise OSError(f"only {self._num_bytes} bytes came in {passed_s:.0f} s")
        self._since_s, self._num_bytes = time.monotonic(), 0


class _Connection(http.client.HTTPSConnection):
    """A connection that can be hung up, and waits for its server as long as is due."""

    def __init__(
        self, host: str, context: ssl.SSLContext, transfer: Transfer, patience: Patience
    ) -> None:
        super().__init__(host, timeout=patience.connect_s, context=context)
        self._transfer = transfer
        self._patience = patience

    def connect(self) -> None:
        """Connect."""
        super().connect()
        assert self.sock is not None  # it is connected
        self.sock.settimeout(self._patience.silence_s)
        self._transfer.runs_over(self.sock)


class _Https(urllib.request.HTTPSHandler):
    """Opens such connections."""

    def __init__(self, context: ssl.SSLContext, transfer: Transfer, patience: Patience) -> None:
        super().__init__()
        self._connection = lambda host, **_others: _Connection(host, context, transfer, patience)

    def https_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        """The response to a request."""
        return self.do_open(self._connection, req)


class _NoDowngrade(urllib.request.HTTPRedirectHandler):
    """Follows redirections to https only."""

    def redirect_request(  # type: ignore[no-untyped-def]
        self, req, fp, code, msg, headers, newurl
    ) -> urllib.request.Request | None:
        """The request to follow with."""
        if not newurl.startswith("https://"):
            raise BadDrafterError(f"{req.full_url} leads to {newurl}, which is not https.")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _context(ca_file: Path | None) -> ssl.SSLContext:
    """By what a server is known."""
    context = ssl.create_default_context()
    if ca_file:
        try:
            context.load_verify_locations(ca_file)
        except OSError as error:
            raise ConfigError(
                f"fleet.ca_file {ca_file} cannot be read as certificates in PEM "
                f"({error.strerror or error}); name a file that can be."
            ) from error
    return context


def _extent(response: http.client.HTTPResponse, num_here: int) -> tuple[int, int | None]:
    """From which byte on a response goes, and how long the whole file is, if that is said."""
    if response.status == http.HTTPStatus.PARTIAL_CONTENT:
        said = _CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", ""))
        if said is None or int(said[1]) != num_here:
            raise _OtherFileError("it has sent another part than it was asked for")
        return num_here, int(said[2])
    length = response.headers.get("Content-Length", "")
    return 0, int(length) if length.isdecimal() else None


def _write(file: IO[bytes], chunk: bytes) -> None:
    try:
        file.write(chunk)
        file.flush()
    except OSError as error:
        raise UnavailableError(
            f"The drafter cannot be kept ({error.strerror}); see that the model store has room."
        ) from error


@contextlib.contextmanager
def _sentences(uri: str, transfer: Transfer) -> Iterator[None]:
    """What goes wrong on the way becomes one sentence."""
    try:
        yield
    except (OSError, http.client.HTTPException, ValueError) as error:
        transfer.go_on()  # whoever hangs up causes an error that says nothing
        raise unreadable(uri, error) from error


def _why(error: Exception) -> str:
    """What was wrong, in a few words."""
    cause = getattr(error, "reason", None)
    if isinstance(cause, ssl.SSLCertVerificationError):
        said = f"its certificate is not good: {cause.verify_message}; fleet.ca_file may name "
        return said + "the authority that it is from"
    if isinstance(error, urllib.error.HTTPError):
        return f"the server says {error.code} {error.reason}".partition("\n")[0].rstrip(".:")
    if isinstance(error, TimeoutError) or isinstance(cause, TimeoutError):
        return "the server is silent"
    root = cause if isinstance(cause, OSError) else error
    said = root.strerror if isinstance(root, OSError) and root.strerror else str(cause or root)
    said = said or type(error).__name__
    return " ".join(said.split()).rstrip(".")
