"""`outrider verifier`: run the verifier service."""

import asyncio

import click

from outrider_common.cli_options import config_option, load, settings_options
from outrider_common.config import ModelSettings, TelemetrySettings, VerifierSettings
from outrider_common.config_loading import LoadedSettings
from outrider_models.store import ModelStore, default_root


@click.group(name="verifier")
def verifier() -> None:
    """Run the verifier: the cloud role, which holds the target model."""


@verifier.command()
@settings_options(VerifierSettings, ModelSettings, TelemetrySettings)
def serve(loaded: LoadedSettings) -> None:
    """Serve a target model until interrupted."""
    from outrider_cloud.server import serve as run  # torch takes seconds to import

    settings = loaded.settings
    store = ModelStore(settings.models.cache_dir or default_root())
    asyncio.run(run(settings.verifier, store, settings.telemetry))


@verifier.command()
@config_option
@click.option(
    "--address",
    metavar="HOST:PORT",
    help="The verifier's health port, or its port if it has no TLS. [default: as configured here]",
)
@click.option("--timeout-s", type=float, default=2.0, show_default=True)
def health(address: str | None, timeout_s: float) -> None:
    """Tell whether a verifier takes sessions: status 0 if so, for probes."""
    from outrider_cloud.health import ask_health

    settings = load().settings.verifier
    port = settings.port if settings.health_port is None else settings.health_port
    ask_health(address or f"127.0.0.1:{port}", timeout_s)
    click.echo("The verifier takes sessions.")
