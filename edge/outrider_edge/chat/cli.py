"""`outrider chat`: a conversation at the terminal, or one answer to what is piped in."""

import asyncio
import sys

import click
from rich.console import Console

from outrider_common.cli_options import settings_options
from outrider_common.config import Settings
from outrider_common.config_loading import LoadedSettings
from outrider_common.errors import InvalidPromptError, UnavailableError
from outrider_common.settings.daemon import DaemonSettings
from outrider_common.settings.edge import EdgeSettings
from outrider_common.settings.models import ModelSettings
from outrider_common.settings.sampling import SamplingSettings
from outrider_models.store import ModelStore, default_root


@click.command(name="chat")
@click.option("--system", metavar="TEXT", help="A system message: who the model shall be.")
@click.option(
    "--daemon/--no-daemon",
    "use_daemon",
    default=None,
    help="Ask the running edge daemon, or draft in this process. Default: the daemon if one runs "
    "and no option says anything of the edge.",
)
@click.option("--history/--no-history", default=True, help="Remember what was typed for next time.")
@settings_options(SamplingSettings, EdgeSettings, DaemonSettings, ModelSettings)
def chat(
    system: str | None, use_daemon: bool | None, history: bool, loaded: LoadedSettings
) -> None:
    """Chat with the target model; a prompt that is piped in is answered once."""
    settings = loaded.settings
    if use_daemon is None and _says_something_of_the_edge(loaded):
        use_daemon = False
    store = ModelStore(settings.models.cache_dir or default_root())
    if sys.stdin.isatty() and sys.stdout.isatty():
        asyncio.run(_chat(settings, store, use_daemon, system, keeps_history=history))
    else:
        prompt = sys.stdin.read()
        if not prompt.strip():
            raise InvalidPromptError("Standard input is empty; pipe in what to answer.")
        asyncio.run(_answer_once(settings, store, use_daemon, system, prompt))


def _says_something_of_the_edge(loaded: LoadedSettings) -> bool:
    """Whether the command line has an option that a running daemon would not follow."""
    return any(
        name.startswith("edge.") and origin.startswith("--")
        for name, origin in loaded.origin.items()
    )


async def _chat(
    settings: Settings,
    store: ModelStore,
    use_daemon: bool | None,
    system: str | None,
    *,
    keeps_history: bool,
) -> None:
    from prompt_toolkit.history import InMemoryHistory

    from outrider_edge.chat.chat import Chat  # takes a while, as it builds an edge
    from outrider_edge.chat.connecting import answer_source
    from outrider_edge.chat.history import PrivateHistory
    from outrider_edge.chat.terminal import Screen, TerminalReader, quiet_keys

    file = store.root / "chat" / "history.jsonl"
    reader = TerminalReader(PrivateHistory(file) if keeps_history else InMemoryHistory())
    async with answer_source(settings, store, use_daemon) as source:
        with quiet_keys(sys.stdin.fileno()):
            await Chat(source, settings.sampling, reader, Screen(Console()), system).run()


async def _answer_once(
    settings: Settings, store: ModelStore, use_daemon: bool | None, system: str | None, prompt: str
) -> None:
    from outrider_edge.chat.answer_on_screen import SureAnswer
    from outrider_edge.chat.connecting import answer_source
    from outrider_edge.chat.conversation import Conversation
    from outrider_edge.chat.terminal import Screen

    conversation = Conversation(system)
    conversation.ask(prompt)
    screen = Screen(Console())
    shown = SureAnswer(screen)
    async with answer_source(settings, store, use_daemon) as source:
        try:
            figures = await source.answer(conversation.messages, settings.sampling, shown.show)
            if figures.finish_reason is None:
                raise UnavailableError(
                    "No verifier was there in time for the rest of the answer "
                    "(daemon.offline_verify_s); try again."
                )
            shown.finish()
        finally:
            screen.end_answer()
