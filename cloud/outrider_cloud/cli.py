"""`outrider verifier`: run the verifier service."""

import asyncio

import click

from outrider_common.cli_options import settings_options
from outrider_common.config import ModelSettings, VerifierSettings
from outrider_common.config_loading import LoadedSettings
from outrider_models.store import ModelStore, default_root


@click.group(name="verifier")
def verifier() -> None:
    """Run the verifier: the cloud role, which holds the target model."""


@verifier.command()
@settings_options(VerifierSettings, ModelSettings)
def serve(loaded: LoadedSettings) -> None:
    """Serve a target model until interrupted."""
    from outrider_cloud.server import serve as run  # torch takes seconds to import

    settings = loaded.settings
    store = ModelStore(settings.models.cache_dir or default_root())
    asyncio.run(run(settings.verifier, store))
