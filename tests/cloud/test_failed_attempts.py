"""Failed attempts: an address may fail a few times, and only so many addresses are remembered."""

from outrider_cloud.failed_attempts import (
    ATTEMPTS_PER_S,
    BURST,
    MAX_ADDRESSES,
    FailedAttempts,
)


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_an_address_is_told_to_be_quiet_whatever_its_port() -> None:
    clock = Clock()
    attempts = FailedAttempts(clock)
    waits = [attempts.count(f"ipv4:192.0.2.1:{40000 + i}") for i in range(int(BURST) + 1)]
    assert waits[:-1] == [0.0] * int(BURST)
    assert waits[-1] == 1 / ATTEMPTS_PER_S
    assert attempts.count("ipv6:[2001:db8::1]:40000") == 0.0
    clock.now += 1 / ATTEMPTS_PER_S
    assert attempts.count("ipv4:192.0.2.1:1") == 0.0


def test_only_so_many_addresses_are_remembered() -> None:
    attempts = FailedAttempts(Clock())
    for _ in range(int(BURST) + 1):
        attempts.count("ipv4:192.0.2.1:1")
    for i in range(MAX_ADDRESSES):
        attempts.count(f"ipv6:[2001:db8::{i:x}]:1")
    assert attempts.count("ipv4:192.0.2.1:1") == 0.0  # forgotten
