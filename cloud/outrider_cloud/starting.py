"""What the start of a verifier is busy with, for somebody who watches it."""

import logging
import sys

import click

from outrider_common import log

_logger = logging.getLogger(__name__)


def say(sentence: str) -> None:
    """Log it, and print it at a terminal."""
    log.event(_logger, "verifier_starting", what=sentence)
    if sys.stderr.isatty():
        click.echo(sentence, err=True)
