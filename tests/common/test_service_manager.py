"""What is said to the service manager, over real datagram sockets."""

import os
from pathlib import Path

import pytest
from notifications import listening_manager

from outrider_common.service_manager import ServiceManager


@pytest.mark.parametrize("is_abstract", [False, True])
def test_what_is_said_arrives_at_either_kind_of_socket(tmp_path: Path, is_abstract: bool) -> None:
    with listening_manager(None if is_abstract else tmp_path / "notify") as listener:
        manager = ServiceManager.of({"NOTIFY_SOCKET": listener.address})
        manager.ready("Listening\non two lines")
        manager.reloading()
        manager.alive()
        manager.status("Well")
        manager.stopping()
        assert listener.next() == {"READY": "1", "STATUS": "Listening on two lines"}
        reloading = listener.next()
        assert reloading["RELOADING"] == "1"
        assert int(reloading["MONOTONIC_USEC"]) > 0
        assert [listener.next() for _ in range(3)] == [
            {"WATCHDOG": "1"},
            {"STATUS": "Well"},
            {"STOPPING": "1"},
        ]


def test_where_nobody_listens_nothing_happens(tmp_path: Path) -> None:
    ServiceManager.of({}).ready("Nobody asked")
    ServiceManager.of({"NOTIFY_SOCKET": str(tmp_path / "gone")}).ready("Nobody is there")


@pytest.mark.parametrize(
    ("environment", "watchdog_s"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "30000000"}, 30.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid())}, 30.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
    ],
)
def test_the_watchdog_is_heard_of_where_it_is_meant_for_this_process(
    environment: dict[str, str], watchdog_s: float | None
) -> None:
    assert ServiceManager.of(environment).watchdog_s == watchdog_s
