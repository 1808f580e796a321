"""Where verifiers are."""

import pytest

from outrider_common.errors import UnavailableError
from outrider_edge.verifier_addresses import is_dynamic, resolve, split_addresses


def test_a_setting_names_one_or_several() -> None:
    assert split_addresses("a:1") == ["a:1"]
    assert split_addresses("a:1, b:2 ,a:1,") == ["a:1", "b:2"]


async def test_addresses_stand_for_themselves() -> None:
    assert await resolve(["a:1", "[::1]:2"]) == ["a:1", "[::1]:2"]
    assert not is_dynamic(["a:1"])


async def test_a_name_stands_for_all_its_addresses() -> None:
    found = await resolve(["dns:///localhost:7411"])
    assert "127.0.0.1:7411" in found
    assert set(found) <= {"127.0.0.1:7411", "[::1]:7411"}
    assert is_dynamic(["dns:///localhost:7411"])


@pytest.mark.parametrize("address", ["dns:///no.such.name.invalid:7411", "dns:///localhost:port"])
async def test_a_name_without_an_address_is_one_sentence(address: str) -> None:
    with pytest.raises(UnavailableError, match="no verifier behind 'dns:///"):
        await resolve([address])
