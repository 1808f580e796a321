"""Checks of the verifier and the way to it: reachable, of one release, of one mind about tokens."""

import asyncio
import statistics
import time
from importlib.metadata import version
from typing import Any, Final

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from outrider_common.errors import UnavailableError
from outrider_common.messages import PROTOCOL_VERSION
from outrider_common.settings.edge import EdgeSettings
from outrider_edge.channel import open_channel
from outrider_edge.doctor.examination import Check, Verdict
from outrider_edge.doctor.findings import Grade
from outrider_edge.doctor.patient import Patient
from outrider_edge.grpc_link import GrpcLink
from outrider_edge.link_security import LinkSecurity
from outrider_edge.verifier_addresses import resolve, split_addresses

_MS: Final = 1000
_NUM_PINGS: Final = 11

_DOWN: Final = "look whether the verifier, or a proxy before it, is stuck."


async def _verifier(patient: Patient) -> Verdict:
    addresses = await _addresses(patient)
    found = [await _one_verifier(patient, address) for address in addresses]
    if len(found) == 1:
        return found[0]
    sentences = " ".join(verdict.sentence for verdict in found)
    worse = [verdict for verdict in found if verdict.grade is not Grade.PASS]
    return worse[0] if worse else Verdict.good(f"{len(found)} of them: {sentences}")


async def _addresses(patient: Patient) -> list[str]:
    return await resolve(split_addresses(patient.settings.edge.verifier))


async def _one_verifier(patient: Patient, address: str) -> Verdict:
    edge = patient.settings.edge
    async with link_of(edge, address) as link:
        info = await link.model_info()
    patient.info = patient.info or info
    await _refuse_unhealthy(edge, address)
    if info.protocol_version != PROTOCOL_VERSION:
        return Verdict.bad(
            f"The verifier at {address} speaks protocol version {info.protocol_version}, this "
            f"edge {PROTOCOL_VERSION}; install the same release of outrider on both sides."
        )
    said = f"{info.model} at {address}, up to {info.max_positions} tokens"
    ours = version("outrider")
    if info.software_version != ours:
        return Verdict.doubtful(
            f"{said}; it has release {info.software_version or 'unknown'}, this edge {ours}: "
            "install the same on both sides."
        )
    return Verdict.good(f"{said}, release {ours}.")


def link_of(edge: EdgeSettings, address: str) -> GrpcLink:
    """A link as the settings have it."""
    return GrpcLink(
        address, connect_timeout_s=edge.connect_timeout_s, security=LinkSecurity.of(edge)
    )


async def _refuse_unhealthy(edge: EdgeSettings, address: str) -> None:
    security = LinkSecurity.of(edge)
    async with open_channel(address, security, security.read()) as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        try:
            answer = await stub.Check(
                health_pb2.HealthCheckRequest(), timeout=edge.connect_timeout_s
            )
        except grpc.aio.AioRpcError as error:
            if error.code() is grpc.StatusCode.UNIMPLEMENTED:
                return
            raise UnavailableError(
                f"The verifier at {address} does not say how it is ({error.code().name}); {_DOWN}"
            ) from error
    if answer.status != health_pb2.HealthCheckResponse.SERVING:
        raise UnavailableError(
            f"The verifier at {address} says that it does not serve now; it is starting or "
            "stopping: wait for it, or name another with --verifier."
        )


async def _same_tokens(patient: Patient) -> Verdict:
    assert patient.info is not None
    theirs, ours = patient.info.tokenizer_fingerprint, patient.fingerprint
    if theirs != ours:
        return Verdict.bad(
            f"The bundle '{patient.settings.edge.bundle}' has another tokenizer ({ours}) than "
            f"'{patient.info.model}' ({theirs}); use a bundle made for that model, see 'outrider "
            "models export'."
        )
    return Verdict.good("Bundle and verifier have the same tokens.")


async def _round_trip(patient: Patient) -> Verdict:
    seconds = []
    address = (await _addresses(patient))[0]
    async with link_of(patient.settings.edge, address) as link:
        await link.model_info()  # connects
        for _ in range(_NUM_PINGS):
            began = time.perf_counter()
            await link.model_info()
            seconds.append(time.perf_counter() - began)
            await asyncio.sleep(0)
    patient.round_trip_s = statistics.median(seconds)
    return Verdict.good(
        f"{patient.round_trip_s * _MS:.1f} ms in the median of {_NUM_PINGS} calls, "
        f"{min(seconds) * _MS:.1f} to {max(seconds) * _MS:.1f} ms.",
        round_trip_s=patient.round_trip_s,
    )


VERIFIER_CHECKS: Final = (
    Check("verifier", _verifier, needs=("settings",), if_it_hangs=_DOWN),
    Check("same tokens", _same_tokens, needs=("tokenizer", "verifier")),
    Check("round trip", _round_trip, needs=("verifier",), if_it_hangs=_DOWN),
)
