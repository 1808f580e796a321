"""The file for trace viewers: what the Trace Event Format asks for, and what a person looks for."""

import json
from collections import defaultdict
from itertools import pairwise
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from simulated_pair import World
from test_tracing import WatchedPair, worlds

from outrider_common.generation_trace import (
    TRACE_KEY,
    GenerationTrace,
    NodeFate,
    PassTrace,
    trace_from_json,
)
from outrider_edge.chrome_trace import chrome_trace_as_text

TRACKS = {"drafter", "tokens", "uplink", "downlink", "queue", "pass"}


def a_trace(seed: int = 0, round_trip_s: float = 0.05) -> GenerationTrace:
    world = World(round_trip_s=0.1)
    return WatchedPair(world, seed).recorder.trace(
        round_trip_s=round_trip_s, target="big", drafter="small", text_of=lambda t: f"<{t}>"
    )


def viewed(trace: GenerationTrace) -> dict[str, Any]:
    """The file as a viewer reads it: plain JSON, no NaN, no infinity."""

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON")

    document: dict[str, Any] = json.loads(chrome_trace_as_text(trace), parse_constant=refuse)
    return document


def of_phase(document: dict[str, Any], *phases: str) -> list[dict[str, Any]]:
    return [event for event in document["traceEvents"] if event["ph"] in phases]


def assert_documented(document: dict[str, Any]) -> None:
    """Each event has the fields that the Trace Event Format asks for, of the right types."""
    assert document["displayTimeUnit"] in ("ms", "ns")
    for event in document["traceEvents"]:
        assert event["ph"] in ("X", "M", "s", "t", "f")
        assert isinstance(event["name"], str)
        assert event["name"]
        assert all(isinstance(event[key], int) for key in ("pid", "tid", "ts"))
        assert event["ts"] >= 0
        if event["ph"] == "X":
            assert event["dur"] >= 1
        if event["ph"] in "stf":
            assert isinstance(event["id"], int)
            assert event["cat"]
            assert (event.get("bp") == "e") == (event["ph"] == "f")
    for event in of_phase(document, "M"):
        wanted = {"process_name": "name", "thread_name": "name"}.get(event["name"], "sort_index")
        assert set(event["args"]) == {wanted}


def by_thread(document: dict[str, Any]) -> dict[tuple[int, int], list[dict[str, Any]]]:
    threads = defaultdict(list)
    for event in of_phase(document, "X"):
        threads[event["pid"], event["tid"]].append(event)
    return threads


def test_a_pass_says_how_many_guesses_of_the_verifiers_own_were_right() -> None:
    commit = PassTrace(0.2, 5, (7, 8, 9), ("a", "b", "c"), 1, False, 0.1, 0.0, 5, num_guessed=1)
    (bar,) = [
        event
        for event in of_phase(viewed(GenerationTrace("t", "d", 0.0, 0.02, passes=(commit,))), "X")
        if event["name"].startswith("5 rows")
    ]
    assert bar["name"] == "5 rows, 1 accepted, 1 guessed"
    assert bar["args"]["own guesses"] == 1


@settings(max_examples=40, deadline=None)
@given(world=worlds, seed=st.integers(0, 10**6))
def test_the_file_is_what_the_format_asks_for_and_bars_of_one_thread_never_overlap(
    world: Any, seed: int
) -> None:
    trace = WatchedPair(world, seed).recorder.trace(round_trip_s=world.round_trip_s, text_of=str)
    document = viewed(trace)
    assert_documented(document)
    named = {(e["pid"], e["tid"]) for e in of_phase(document, "M") if e["name"] == "thread_name"}
    threads = by_thread(document)
    assert set(threads) == named
    for events in threads.values():
        events.sort(key=lambda event: event["ts"])
        for event, following in pairwise(events):
            assert event["ts"] + event["dur"] <= following["ts"]


@settings(max_examples=40, deadline=None)
@given(world=worlds, seed=st.integers(0, 10**6))
def test_an_arrow_leads_each_committed_node_from_its_draft_over_the_link_to_the_text(
    world: Any, seed: int
) -> None:
    trace = WatchedPair(world, seed).recorder.trace(round_trip_s=world.round_trip_s, text_of=str)
    document = viewed(trace)
    threads = by_thread(document)
    names = {
        (e["pid"], e["tid"]): e["args"]["name"].split()[0]
        for e in of_phase(document, "M")
        if e["name"] == "thread_name"
    }
    arrows = defaultdict(list)
    for event in of_phase(document, "s", "t", "f"):
        inside = [
            bar
            for bar in threads[event["pid"], event["tid"]]
            if bar["ts"] <= event["ts"] < bar["ts"] + bar["dur"]
        ]
        assert len(inside) == 1
        arrows[event["id"]].append((event["ph"], names[event["pid"], event["tid"]], event["ts"]))
    committed = {node.node_id for node in trace.nodes if node.fate is NodeFate.COMMITTED}
    assert set(arrows) == committed
    for stops in arrows.values():
        assert [stop[0] for stop in stops] == ["s", "t", "t", "t", "f"]
        assert [stop[1] for stop in stops] == ["drafter", "uplink", "pass", "downlink", "tokens"]
        times = [stop[2] for stop in stops]
        assert all(after - before >= -1 for before, after in pairwise(times))


def test_every_track_has_a_name_and_bars_say_what_became_of_their_nodes() -> None:
    document = viewed(a_trace())
    names = {e["args"]["name"] for e in of_phase(document, "M") if e["name"] == "thread_name"}
    assert {name.split()[0] for name in names} == TRACKS
    told = " ".join(
        str(value) for event in of_phase(document, "X") for value in event["args"].values()
    )
    assert "committed" in told
    assert "guessed by simulated" in told


def test_the_trace_itself_can_be_read_back_from_the_file() -> None:
    trace = a_trace()
    assert trace_from_json(viewed(trace)[TRACE_KEY], "out.json") == trace


def test_an_answer_without_drafts_has_passes_and_no_arrows() -> None:
    document = viewed(GenerationTrace("big", "none", 0.1, 0.05))
    assert_documented(document)
    assert of_phase(document, "X", "s") == []
