"""Attack the surfaces with many messages: `make fuzz`. Exits with 1 where an answer was unclean."""

import argparse
import asyncio
import logging
import sys

from fuzzing import Finding, Tally, fuzz
from surfaces import SURFACES


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--messages", type=int, default=100_000, help="to each surface")
    parser.add_argument("--seed", type=int, default=0, help="of the first attack")
    parser.add_argument("surfaces", nargs="*", default=list(SURFACES), metavar="SURFACE")
    chosen = parser.parse_args()
    logging.disable()
    unknown = [name for name in chosen.surfaces if name not in SURFACES]
    if unknown:
        parser.error(f"there is no surface '{unknown[0]}'; choose from {', '.join(SURFACES)}")
    findings: list[Finding] = []
    for name in chosen.surfaces:
        findings += asyncio.run(_fuzz(name, chosen.messages, chosen.seed)).findings
    sys.exit(1 if findings else 0)


async def _fuzz(name: str, num_messages: int, seed: int) -> Tally:
    async with SURFACES[name]() as surface:
        tally = await fuzz(surface, num_messages, seed, _say_progress)
    print(
        f"\r{name}: {tally.num_messages} messages in {tally.num_attacks} attacks, "
        f"{len(tally.findings)} unclean answers"
    )
    for finding in tally.findings[:20]:
        print(f"  seed {finding.seed}: {finding.complaint}")
    return tally


def _say_progress(tally: Tally) -> None:
    print(f"\r{tally.num_messages} messages ...", end="", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
