"""Several verifiers of one model as processes, which tests kill, freeze, end and start again."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TypeVar

from mortal_process import MortalProcess

from outrider.demo import READY


class Replica(MortalProcess):
    """One verifier at an address that stays the same; it is started at once.

    Args:
        command: starts it, without its port.
        log: takes its standard error; None: ours does.
    """

    def __init__(self, command: Sequence[str | Path], log: IO[str] | None = None) -> None:
        super().__init__(command, READY, log)
        self.begin()


AnyReplica = TypeVar("AnyReplica", bound=Replica)


@contextmanager
def all_ready(started: list[AnyReplica]) -> Iterator[list[AnyReplica]]:
    """Wait for all of them; they are ended afterwards."""
    try:
        for replica in started:
            replica.ready()
        yield started
    finally:
        for replica in started:
            replica.end()


@contextmanager
def replicas(
    outrider: Sequence[str | Path], model: str | Path, count: int, *options: str
) -> Iterator[list[Replica]]:
    """So many verifiers, side by side.

    Args:
        outrider: the command, such as `[sys.executable, "-m", "outrider"]`.
        model: the directory of the target model, or its name.
        count: how many.
        options: further ones of the command.
    """
    command = [*outrider, "verifier", "serve", "--model", model, *options]
    with all_ready([Replica(command) for _ in range(count)]) as started:
        yield started
