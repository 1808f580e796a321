"""The gate before every call: who asks, may they, and how fast do they talk.

An interceptor, so that no service is open by accident: only health is. Turns what gRPC says of a
peer into values, and errors into statuses; `authentication` and `tenant_usage` decide.
"""

import asyncio
from collections.abc import Callable
from contextlib import ExitStack, suppress
from contextvars import ContextVar
from typing import Any, Final

import grpc
from grpc_health.v1 import health

from outrider_cloud.authentication import Authenticator, Caller, Shown
from outrider_cloud.failed_attempts import FailedAttempts
from outrider_cloud.pacing import paced
from outrider_cloud.refusal import Context, abort
from outrider_cloud.row_limits import RowLimits
from outrider_cloud.tenant_usage import TenantUsage
from outrider_common.errors import (
    CapacityError,
    OutriderError,
    QuotaError,
    UnauthenticatedError,
)
from outrider_common.token_bucket import TokenBucket

_OPEN_TO_ALL: Final = f"/{health.SERVICE_NAME}/"
_BEARER: Final = "bearer "

_HEAR_OUT_S: Final = 1.0
"""How long a session that is refused may take to send its first message."""

CALLER: Final[ContextVar[Caller]] = ContextVar("caller", default=Caller())  # noqa: B039 (immutable)
"""Who is being served; set by the gate for each call."""


class Gate(grpc.aio.ServerInterceptor):  # type: ignore[type-arg]
    """Lets calls through, or not.

    Args:
        authenticator: says who somebody is.
        model: that this verifier serves.
        usage: of all tenants; sessions are entered there.
        row_limits: are told what a tenant may use when it opens a session.
        max_messages_per_s: that are read of one stream.
    """

    def __init__(
        self,
        authenticator: Authenticator,
        model: str,
        usage: TenantUsage,
        row_limits: RowLimits,
        max_messages_per_s: float,
    ) -> None:
        self._authenticator = authenticator
        self._model = model
        self._usage = usage
        self._row_limits = row_limits
        self._max_messages_per_s = max_messages_per_s
        self._failed_attempts = FailedAttempts()

    async def intercept_service(self, continuation: Any, handler_call_details: Any) -> Any:
        """The handler of a call, behind the gate; None, as gRPC has it, for what is not there."""
        handler = await continuation(handler_call_details)
        if handler is None or handler_call_details.method.startswith(_OPEN_TO_ALL):
            return handler
        if handler.unary_unary:
            return grpc.unary_unary_rpc_method_handler(
                self._guarded_call(handler.unary_unary),
                handler.request_deserializer,
                handler.response_serializer,
            )
        if handler.stream_stream:
            return grpc.stream_stream_rpc_method_handler(
                self._guarded_session(handler.stream_stream),
                handler.request_deserializer,
                handler.response_serializer,
            )
        return None  # no service of ours has other kinds

    def _guarded_call(self, behaviour: Any) -> Callable[[Any, Context], Any]:
        async def guarded(request: Any, context: Context) -> Any:
            CALLER.set(await self._let_in(context))
            return await behaviour(request, context)

        return guarded

    def _guarded_session(self, behaviour: Any) -> Callable[[Any, Context], Any]:
        async def guarded(requests: Any, context: Context) -> None:
            caller = await self._let_in(context, requests)
            CALLER.set(caller)
            with ExitStack() as stack:
                try:
                    stack.enter_context(self._usage.session(caller))
                except QuotaError as error:
                    await _hear_out(requests)
                    await abort(context, error)
                self._row_limits.limit(caller.tenant, caller.quotas.rows_per_s)
                rate = self._max_messages_per_s
                await behaviour(paced(requests, TokenBucket(rate, rate)), context)

        return guarded

    async def _let_in(self, context: Context, requests: Any = None) -> Caller:
        """Who calls; whoever may not ends here."""
        try:
            return self._authenticator.authenticate(shown_by(context), self._model)
        except OutriderError as error:
            await _hear_out(requests)
            if isinstance(error, UnauthenticatedError):
                await self._turn_away(context, error)
            await abort(context, error)
        raise AssertionError("a refused call goes on")

    async def _turn_away(self, context: Context, error: UnauthenticatedError) -> None:
        wait_s = self._failed_attempts.count(context.peer())
        if wait_s == 0.0:
            await abort(context, error)
        too_many = CapacityError(
            f"Too many calls from there that nobody vouches for; try again in {wait_s:.0f} s.",
            retry_after_s=wait_s,
        )
        await abort(context, too_many, is_logged=False)


async def _hear_out(requests: Any) -> None:
    """Take the first message, unread: a status that meets it on its way may never be read."""
    if requests is not None:
        with suppress(TimeoutError, StopAsyncIteration):
            async with asyncio.timeout(_HEAR_OUT_S):
                await anext(requests)


def shown_by(context: Context) -> Shown:
    """What a peer showed: its bearer token, and the names in its certificate."""
    metadata: Any = context.invocation_metadata() or ()
    given = [str(value) for key, value in metadata if key == "authorization"]
    token = given[0] if given else ""
    of_certificate: Any = context.auth_context()
    return Shown(
        token[len(_BEARER) :].strip() if token.lower().startswith(_BEARER) else None,
        _texts(of_certificate.get("peer_uri", ())),
        _texts(of_certificate.get("peer_dns", ())),
    )


def _texts(values: Any) -> tuple[str, ...]:
    return tuple(bytes(value).decode("utf-8", errors="replace") for value in values)
