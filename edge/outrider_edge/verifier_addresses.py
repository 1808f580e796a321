"""Where verifiers are: addresses as the setting names them, and those behind a name in the DNS."""

import asyncio
import socket
from typing import Final

from outrider_common.errors import UnavailableError

DNS: Final = "dns:///"
"""Before a name and a port: every address of that name is a verifier."""


def split_addresses(setting: str) -> list[str]:
    """The addresses that a setting names, each once."""
    parts = (part.strip() for part in setting.split(","))
    return list(dict.fromkeys(part for part in parts if part))


def host_and_port(address: str) -> tuple[str, str]:
    """The two parts of an address as the setting names it, the host without brackets."""
    host, _, port = address.removeprefix(DNS).rpartition(":")
    return host.strip("[]"), port


def is_dynamic(addresses: list[str]) -> bool:
    """Whether what the addresses stand for may change."""
    return any(address.startswith(DNS) for address in addresses)


async def resolve(addresses: list[str]) -> list[str]:
    """host:port of every verifier now.

    Raises:
        UnavailableError: a name has no address.
    """
    found = [await _behind(address) for address in addresses]
    return list(dict.fromkeys(each for one in found for each in one))


async def _behind(address: str) -> list[str]:
    if not address.startswith(DNS):
        return [address]
    host, port = host_and_port(address)
    try:
        entries = await asyncio.get_running_loop().getaddrinfo(
            host, int(port), type=socket.SOCK_STREAM
        )
    except (OSError, ValueError) as error:
        raise UnavailableError(
            f"There is no verifier behind '{address}' ({error}); correct the name in "
            "edge.verifier, or see whether the name server answers."
        ) from error
    return sorted({_joined(str(entry[4][0]), int(entry[4][1])) for entry in entries})


def _joined(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
