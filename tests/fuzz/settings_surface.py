"""Settings from files, variables and flags that make no sense."""

import contextlib
import json
import random
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

from bad_data import TEXTS, mutated, random_bytes, random_json
from fuzzing import Attack

from outrider_common.config_loading import load_settings
from outrider_common.errors import ConfigError
from outrider_common.setting import all_settings

_SETTINGS: Final = all_settings()


@contextlib.asynccontextmanager
async def settings_surface() -> AsyncIterator["SettingsSurface"]:
    """Where settings are loaded."""
    with tempfile.TemporaryDirectory() as directory:
        yield SettingsSurface(Path(directory) / "outrider.toml")


class SettingsSurface:
    """Loads settings."""

    name = "settings"

    def __init__(self, file: Path) -> None:
        self._file = file

    async def attack(self, coins: random.Random) -> Attack:
        """One configuration."""
        self._file.write_bytes(_toml(coins))
        variables = dict(_variable(coins) for _ in range(coins.choice((0, 0, 1, 3))))
        try:
            load_settings(self._file, variables)
        except ConfigError as error:
            return Attack(1, None if str(error) else "an error without a sentence")
        except Exception as error:  # that is what is looked for
            return Attack(1, f"{type(error).__name__}: {error}")
        return Attack(1)

    async def complaint_afterwards(self) -> str | None:
        """Defaults can be loaded."""
        self._file.write_text("")
        load_settings(self._file, {})
        return None


def _toml(coins: random.Random) -> bytes:
    if coins.random() < 0.1:
        return random_bytes(coins)
    lines = [_line(coins) for _ in range(coins.choice((0, 1, 2, 5)))]
    text = "\n".join(lines).encode("utf-8", "surrogatepass")
    return mutated(text, coins) if coins.random() < 0.4 else text


def _line(coins: random.Random) -> str:
    name = coins.choice((coins.choice(_SETTINGS).name, "verifier.prot", "nonsense", "edge"))
    return f"{name} = {json.dumps(random_json(coins))}"


def _variable(coins: random.Random) -> tuple[str, str]:
    name = coins.choice((coins.choice(_SETTINGS).variable, "OUTRIDER_NONSENSE", "OUTRIDER_"))
    value = coins.choice((*TEXTS, json.dumps(random_json(coins)), "-1", "1e400", "nan"))
    return name, value
