"""What a line typed into a chat means: a command that begins with a slash, or a message.

Pure. Knows nothing of terminals and of how commands are carried out.
"""

import difflib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from outrider_common.errors import InvalidInputError
from outrider_common.setting import Setting, as_text
from outrider_common.settings.sampling import SamplingSettings

SETTABLE: Final = (
    "temperature",
    "top_p",
    "top_k",
    "min_p",
    "repetition_penalty",
    "presence_penalty",
    "frequency_penalty",
    "seed",
    "max_tokens",
    "acceptance_mode",
)
"""The settings of `[sampling]` that may be changed in the middle of a chat."""

HELP: Final = """\
/help             this
/reset            forget what was said; the system message stays
/system [TEXT]    say who the model shall be; without TEXT, say nothing of it
/set [NAME=VALUE] change how tokens are chosen, such as temperature=0.8; without one, show all
/stats            figures of this chat
/save FILE        keep the conversation: FILE.json for programs, any other name as Markdown
/quit             end, as Ctrl-D does

Enter sends. Alt-Enter, or a \\ at the end of a line, begins another line. Ctrl-C stops an answer.
A message that begins with a slash is written with two: //"""


@dataclass(frozen=True, slots=True)
class Say:
    """A message for the model."""

    text: str


@dataclass(frozen=True, slots=True)
class Help:
    """Say what can be typed."""


@dataclass(frozen=True, slots=True)
class Reset:
    """Forget what was said."""


@dataclass(frozen=True, slots=True)
class SetSystem:
    """Another system message, or none."""

    text: str | None


@dataclass(frozen=True, slots=True)
class SetSampling:
    """Other values of settings, by name; none: show them all."""

    values: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class ShowStats:
    """Show the figures of this chat."""


@dataclass(frozen=True, slots=True)
class Save:
    """Write the conversation to a file."""

    file: Path


@dataclass(frozen=True, slots=True)
class Quit:
    """End the chat."""


Action = Say | Help | Reset | SetSystem | SetSampling | ShowStats | Save | Quit


def parse(line: str) -> Action | None:
    """What a line means; None if it is empty.

    Raises:
        InvalidInputError: there is no such command, or it needs something else behind it.
    """
    text = line.strip()
    if not text:
        return None
    if text.startswith("//"):
        return Say(text[1:])
    if not text.startswith("/"):
        return Say(text)
    name, _, rest = text.partition(" ")
    if name not in _COMMANDS:
        raise _unknown(name)
    return _COMMANDS[name](rest.strip())


def with_values(settings: SamplingSettings, values: SetSampling) -> SamplingSettings:
    """The settings with other values.

    Raises:
        InvalidInputError: there is no such setting, or it does not take this value.
    """
    changed: dict[str, object] = {}
    for name, text in values.values:
        if name not in SETTABLE:
            raise InvalidInputError(
                f"There is nothing called {name!r} to set; there are {', '.join(SETTABLE)}."
            )
        try:
            changed[name] = Setting("sampling", name).from_text(text)
        except ValueError as error:
            raise InvalidInputError(f"{name} is {text!r}, but {error}.") from None
    return settings.model_copy(update=changed)


def shown(settings: SamplingSettings) -> str:
    """All settings that can be changed, as `/set` takes them."""
    return "  ".join(f"{name}={as_text(getattr(settings, name))}" for name in SETTABLE)


def _set(rest: str) -> SetSampling:
    pairs = []
    for word in rest.split():
        name, equals, value = word.partition("=")
        if not (name and equals and value):
            raise InvalidInputError(
                f"/set was given {word!r}; it takes NAME=VALUE, such as /set temperature=0.8."
            )
        pairs.append((name, value))
    return SetSampling(tuple(pairs))


def _save(rest: str) -> Save:
    if not rest:
        raise InvalidInputError("/save needs the name of a file, such as /save chat.md.")
    return Save(Path(rest).expanduser())


def _alone(name: str, action: Action) -> Callable[[str], Action]:
    def read(rest: str) -> Action:
        if rest:
            raise InvalidInputError(f"{name} stands alone; leave out {rest!r}.")
        return action

    return read


def _unknown(name: str) -> InvalidInputError:
    meant = difflib.get_close_matches(name, _COMMANDS, n=1)
    remedy = f"did you mean {meant[0]}?" if meant else "/help lists them all."
    return InvalidInputError(f"There is no command {name}; {remedy}")


_COMMANDS: Final[dict[str, Callable[[str], Action]]] = {
    "/help": _alone("/help", Help()),
    "/reset": _alone("/reset", Reset()),
    "/system": lambda rest: SetSystem(rest or None),
    "/set": _set,
    "/stats": _alone("/stats", ShowStats()),
    "/save": _save,
    "/quit": _alone("/quit", Quit()),
}
