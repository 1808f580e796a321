"""Drafter bundles that somebody has damaged, or made to do harm."""

import contextlib
import json
import random
import shutil
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

from bad_data import mutated, random_bytes, random_json
from fuzzing import Attack

from outrider_common.errors import OutriderError
from outrider_models.bundle import (
    FORMAT_VERSION,
    Bundle,
    KvLayout,
    Manifest,
    ParityReport,
    QuantisationRecord,
    tokenizer_fingerprint,
)
from outrider_models.checksums import record_files

CONTENTS: Final = {
    "model.onnx": b"graph",
    "tokenizer.json": b"{}",
    "chat_template.jinja": b"{{ messages }}",
    "draft_vocabulary.json": b"[0, 5, 7]",
}


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
        for name, contents in CONTENTS.items():
            (self._good / name).write_bytes(contents)
        manifest = Manifest(
            format_version=FORMAT_VERSION,
            name="tiny-int8",
            source="tiny",
            architecture="llama",
            vocab_size=300,
            max_positions=128,
            eos_token_ids=(2, 5),
            bos_token_id=None,
            kv=KvLayout(num_layers=2, num_kv_heads=1, head_size=16),
            quantisation=QuantisationRecord("int8", bits=8, head_bits=8, block_size=32),
            tokenizer_fingerprint=tokenizer_fingerprint({"a": 0}),
            tools={"onnx": "1.0"},
            parity=ParityReport(100, 1e-5, 0.01, 0.98, 0.02),
            files=record_files(self._good, CONTENTS),
            num_draft_tokens=3,
        )
        self._manifest = manifest.to_json()
        (self._good / "manifest.json").write_text(self._manifest)

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
