"""Verifiers as processes of their own, the way users start them."""

import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from outrider.demo import READY


@contextmanager
def running_verifier(
    outrider: Sequence[str | Path], model: str | Path, *options: str
) -> Iterator[str]:
    """`outrider verifier serve` on a free port of loopback; yields its address.

    Args:
        outrider: the command, such as `[sys.executable, "-m", "outrider"]`.
        model: the directory of the target model, or its name.
        options: further ones of the command.
    """
    process = subprocess.Popen(
        [*outrider, "verifier", "serve", "--port", "0", "--model", model, *options],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        ready = READY.match(process.stdout.readline())
        assert ready is not None, "the verifier did not start"
        yield ready.group(1)
    finally:
        process.terminate()
        assert process.wait(timeout=60) == 0
