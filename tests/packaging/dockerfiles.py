"""Dockerfiles, read well enough to ask what their stages do."""

import re
import shlex
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
IMAGES = ROOT / "deploy" / "images"


@dataclass
class Stage:
    """One stage: its base, and its instructions in order."""

    name: str
    base: str
    instructions: list[tuple[str, str]] = field(default_factory=list)

    def all(self, keyword: str) -> list[str]:
        """What all instructions of a kind say."""
        return [text for word, text in self.instructions if word == keyword]

    def last(self, keyword: str) -> str | None:
        return self.all(keyword)[-1] if self.all(keyword) else None


def stages(name: str) -> dict[str, Stage]:
    """The stages of a Dockerfile by name."""
    text = re.sub(r"^\s*#.*\n", "", (IMAGES / name).read_text(), flags=re.MULTILINE)
    found: dict[str, Stage] = {}
    for line in text.replace("\\\n", " ").splitlines():
        word, _, rest = line.strip().partition(" ")
        if word == "FROM":
            base, _, alias = rest.partition(" AS ")
            stage = Stage(alias or base, base)
            found[stage.name] = stage
        elif word and found:
            stage.instructions.append((word, rest.strip()))
    return found


def lineage(found: dict[str, Stage], name: str) -> list[Stage]:
    """A stage and those that it is built on, the outermost last."""
    chain = [found[name]]
    while chain[-1].base in found:
        chain.append(found[chain[-1].base])
    return chain


def effective(found: dict[str, Stage], name: str, keyword: str) -> str | None:
    """The last instruction of a kind that counts for a stage."""
    said = (stage.last(keyword) for stage in lineage(found, name))
    return next((text for text in said if text is not None), None)


def copied_from_context(stage: Stage) -> list[str]:
    """The paths of the build context that a stage copies."""
    words = [shlex.split(text) for text in stage.all("COPY") if not text.startswith("--from")]
    return [path for sources in words for path in sources[:-1]]
