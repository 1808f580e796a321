"""What a fleet operator lays over a device's own settings.

Pure. Knows nothing of how an operator says so, or of how settings come into force.
"""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from outrider_common.config import SECTIONS, Settings
from outrider_common.errors import ConfigError
from outrider_common.setting import Setting, all_settings

_LOCAL_SECTIONS: Final = frozenset({"fleet", "models", "verifier"})
"""How the device reaches its operator, where its files are, and what is no matter of an edge."""

_LOCAL_SETTINGS: Final = frozenset(
    {
        "daemon.allow_remote",
        "daemon.allowed_hosts",
        "daemon.allowed_origins",
        "daemon.host",
        "daemon.socket",
    }
)
"""Who may ask the daemon is decided on the device."""

_BUNDLE: Final = "edge.bundle"
_SETTINGS: Final = {setting.name: setting for setting in all_settings()}


@dataclass(frozen=True, slots=True)
class Overlay:
    """What replaces values of a device's own settings.

    Attributes:
        values: by full name, as text.
        bundle: the drafter bundle in place of `replaces`; None: the device's own.
        replaces: the value of `edge.bundle` for which it stands in. Where the device names another
            one by now, that counts.
    """

    values: Mapping[str, str] = field(default_factory=dict)
    bundle: str | None = None
    replaces: str = ""

    def on(self, own: Settings) -> Settings:
        """The settings of a device with this laid over.

        Raises:
            ConfigError: a value cannot be used, or is not the operator's to set.
        """
        changes: defaultdict[str, dict[str, Any]] = defaultdict(dict)
        for name, text in self.values.items():
            setting = _of_operator(name)
            changes[setting.section][setting.field] = _read(setting, text)
        if self.bundle is not None and self.replaces == own.edge.bundle:
            changes["edge"]["bundle"] = self.bundle
        return Settings(
            **{
                name: section.model_copy(update=changes[name])
                for name, section in own
                if name in SECTIONS
            }
        )


def _of_operator(name: str) -> Setting:
    setting = _SETTINGS.get(name)
    if setting is None:
        raise ConfigError(
            f"There is no setting {name[:80]!r}; docs/configuration.md lists those that there are."
        )
    if name == _BUNDLE:
        raise ConfigError(f"{name} is changed by a rollout; use 'outrider fleet rollout'.")
    if setting.section in _LOCAL_SECTIONS or name in _LOCAL_SETTINGS:
        raise ConfigError(f"{name} cannot be set by the fleet; change it in the device's own file.")
    return setting


def _read(setting: Setting, text: str) -> object:
    try:
        return setting.from_text(text)
    except ValueError as error:
        raise ConfigError(f"{setting.name} is {text[:80]!r}, but {error}.") from None
