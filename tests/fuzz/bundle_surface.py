"""Drafter bundles that somebody has damaged, or made to do harm."""

import contextlib
import json
import random
import shutil
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

import bundles
from bad_data import mutated, random_bytes, random_json
from bundles import write_bundle
from fuzzing import Attack

from outrider_common.errors import OutriderError
from outrider_models.bundle import Bundle

CONTENTS: Final = bundles.CONTENTS | {"draft_vocabulary.json": b"[0, 5, 7]"}


@contextlib.asynccontextmanager
async def bundle_surface() -> AsyncIterator["BundleSurface"]:
    """A bundle to damage."""
    with tempfile.TemporaryDirectory() as directory:
        yield BundleSurface(Path(directory))


class BundleSurface:
    """Reads a damaged copy of one good bundle after the other."""

    name = "bundle"

    def __init__(self, directory: Path) -> None:
        self._good = directory / "good"
        self._bad = directory / "bad"
        self._good.mkdir()
        self._manifest = write_bundle(self._good, CONTENTS, num_draft_tokens=3).to_json()

    async def attack(self, coins: random.Random) -> Attack:
        """One damaged bundle."""
        shutil.rmtree(self._bad, ignore_errors=True)
        shutil.copytree(self._good, self._bad)
        self._damage(coins)
        try:
            bundle = Bundle.load(self._bad, verify=coins.random() < 0.5)
            bundle.draft_vocabulary()
            bundle.chat_template()
        except OutriderError as error:
            return Attack(1, None if str(error) else "an error without a sentence")
        except Exception as error:  # that is what is looked for
            return Attack(1, f"{type(error).__name__}: {error}")
        return Attack(1)

    def _damage(self, coins: random.Random) -> None:
        manifest = self._bad / "manifest.json"
        match coins.randrange(5):
            case 0:
                manifest.write_bytes(mutated(self._manifest.encode(), coins))
            case 1:
                manifest.write_bytes(random_bytes(coins))
            case 2:
                path = self._bad / coins.choice(list(CONTENTS))
                path.write_bytes(mutated(path.read_bytes(), coins))
            case _:
                document = json.loads(self._manifest)
                _change(document, coins)
                manifest.write_text(json.dumps(document))

    async def complaint_afterwards(self) -> str | None:
        """The good one can still be read."""
        Bundle.load(self._good, verify=True)
        return None


def _change(document: dict[str, Any], coins: random.Random) -> None:
    """Put something else in some place of a manifest."""
    place: Any = document
    while isinstance(place, dict) and place:
        key = coins.choice(list(place))
        if not isinstance(place[key], dict) or coins.random() < 0.3:
            if coins.random() < 0.2:
                place[coins.choice(("../x", "/etc/passwd", "", "a\x00b", "."))] = place.pop(key)
            else:
                place[key] = random_json(coins)
            return
        place = place[key]
