"""Runs a bench client of others, AIPerf, against a real daemon, and holds its figures against ours.

It is installed into an environment of its own (1.2 GB) the first time. Prints a table; ends with a
status other than 0 where a request failed or a figure of speculation was not understood.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import venv
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

TESTS: Final = Path(__file__).resolve().parents[1]
sys.path.append(str(TESTS))

from daemons import RunningDaemon, running_daemon  # noqa: E402
from processes import running_verifier  # noqa: E402

from outrider_models.store import ModelStore, default_root  # noqa: E402

PACKAGE: Final = "aiperf==0.13.0"
OUTRIDER: Final = (sys.executable, "-m", "outrider")
SHOWN: Final = {
    "request_count": "requests",
    "time_to_first_token": "time to first token, ms",
    "inter_token_latency": "between tokens, ms",
    "output_token_throughput": "tokens/s",
    "usage_completion_tokens": "tokens of an answer",
    "usage_accepted_prediction_tokens": "accepted prediction tokens",
    "usage_rejected_prediction_tokens": "rejected prediction tokens",
    "spec_decode_steps": "passes with drafts",
    "spec_decode_draft_tokens": "draft tokens",
    "spec_decode_accepted_draft_tokens": "accepted draft tokens",
    "spec_decode_acceptance_length": "acceptance length",
    "spec_decode_draft_acceptance_rate": "draft acceptance rate, %",
}
"""AIPerf's names of what is printed, means over requests, and what they are."""

SAME: Final = (
    ("total_usage_accepted_prediction_tokens", "total_accepted_draft_tokens"),
    ("total_usage_completion_tokens", "total_osl"),
)
"""What AIPerf reads in one place, and reads or counts in another."""


def installed(directory: Path) -> Path:
    """The command, after it was installed there unless it is."""
    command = directory / "bin" / "aiperf"
    if not command.exists():
        print(f"Installing {PACKAGE} into {directory} ...", flush=True)  # noqa: T201
        venv.create(directory, with_pip=True, clear=True)
        pip = [str(directory / "bin" / "python"), "-m", "pip", "install", "--quiet", PACKAGE]
        subprocess.run(pip, check=True)
    return command


def profile(
    command: Path, daemon: RunningDaemon, tokenizer: Path, counts: tuple[int, int], out: Path
) -> dict[str, Any]:
    """Have AIPerf ask streamed requests, so many and so many at a time; what it says of them."""
    requests, concurrency = counts
    arguments: list[object] = [command, "profile", "--ui", "none", "--artifact-dir", out]
    arguments += ["--model", daemon.wait_until_ready(), "--url", daemon.url]
    arguments += ["--tokenizer", tokenizer, "--apply-chat-template"]
    arguments += ["--endpoint-type", "chat", "--streaming"]
    arguments += ["--request-count", requests, "--concurrency", concurrency]
    arguments += ["--synthetic-input-tokens-mean", 48, "--output-tokens-mean", 32]
    arguments += ["--extra-inputs", "temperature:0", "--random-seed", 1, "--no-gpu-telemetry"]
    subprocess.run([str(one) for one in arguments], check=True, stdout=subprocess.DEVNULL)
    found: dict[str, Any] = json.loads((out / "profile_export_aiperf.json").read_text())
    return found


def faults(found: dict[str, Any], requests: int) -> list[str]:
    """What is not as it must be, in sentences."""
    said = [f"AIPerf found no {name}." for name in SHOWN if name not in found]
    if found.get("request_error_rate", {}).get("avg"):
        said.append("Requests failed.")
    if found.get("request_count", {}).get("avg") != requests:
        said.append(f"Not all of {requests} requests were answered.")
    for one, other in SAME:
        if found.get(one, {}).get("avg") != found.get(other, {}).get("avg"):
            said.append(f"{one} and {other} differ.")
    return said


def main(arguments: Sequence[str] | None = None) -> None:
    """Start verifier and daemon, and let AIPerf measure them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--environment", type=Path, default=Path("build/aiperf"))
    parser.add_argument("--bundle", default="smollm2-135m-int8")
    parser.add_argument("--requests", type=int, default=12)
    parser.add_argument("--concurrency", type=int, default=2)
    options = parser.parse_args(arguments)
    command = installed(options.environment.resolve())
    store = ModelStore(default_root())
    model = store.resolve_model("smollm2-135m")
    with ExitStack() as stack:
        state = stack.enter_context(tempfile.TemporaryDirectory())
        address = stack.enter_context(running_verifier(OUTRIDER, model))
        bundle = store.resolve_bundle(options.bundle)
        daemon = stack.enter_context(running_daemon(address, bundle, "--cache-dir", state))
        counts = options.requests, options.concurrency
        found = profile(command, daemon, model, counts, Path(state) / "aiperf")
    print(f"| {PACKAGE} | |\n|---|---|")  # noqa: T201
    for name, title in SHOWN.items():
        if name in found:
            print(f"| {title} | {found[name]['avg']:.2f} |")  # noqa: T201
    sys.exit(" ".join(faults(found, options.requests)) or 0)


if __name__ == "__main__":
    main()
