"""`outrider verifier`: run the verifier service."""

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path

import click

from outrider_common.cli_options import config_option, load, settings_options
from outrider_common.config_loading import LoadedSettings
from outrider_common.settings.models import ModelSettings
from outrider_common.settings.telemetry import TelemetrySettings
from outrider_common.settings.verifier import VerifierSettings
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


@verifier.group()
def token() -> None:
    """Bearer tokens of those who may use the verifier."""


@token.command()
@click.option("--tenant", required=True, help="Whose token it is.")
@click.option(
    "--file",
    "path",
    required=True,
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="The tenants file, as in verifier.tenants; made if it is not there.",
)
@click.option("--days", type=click.IntRange(min=1, max=36500), help="For how long it is good.")
@click.option("--in-days", type=click.IntRange(min=1, max=36500), help="In how long it is good.")
def new(tenant: str, path: Path, days: int | None, in_days: int | None) -> None:
    """Make a token, keep its hash in FILE, and print the token: it is shown this once."""
    from outrider_cloud.token_file import add_token

    begins = datetime.now(UTC) + timedelta(days=in_days or 0)
    made = add_token(
        path,
        tenant,
        not_before=begins if in_days else None,
        expires=begins + timedelta(days=days) if days else None,
    )
    click.echo(made.text)
    click.echo(f"Token {made.token_id} of '{tenant}' is in {path}, as a hash.", err=True)


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
