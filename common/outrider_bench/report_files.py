"""Reads traces and writes a report: the page, and each chart as SVG and, if it can be, as PNG."""

import json
from pathlib import Path
from typing import Final

from outrider_bench.report_page import Report
from outrider_bench.results import BenchResults
from outrider_bench.results_file import read_results
from outrider_charts.png import can_render, png_of
from outrider_charts.style import Dress
from outrider_common.errors import ConfigError, InvalidInputError
from outrider_common.generation_trace import TRACE_KEY, GenerationTrace, trace_from_json

PAGE: Final = "report.html"


def read_measured(path: Path) -> BenchResults:
    """Read results of which something can be shown.

    Raises:
        ConfigError: the file cannot be read, or no round of it is finished.
    """
    results = read_results(path)
    if not results.cells:
        raise ConfigError(
            f"{path} holds no cells, as no round was finished; go on with it by "
            "'outrider bench run --resume'."
        )
    return results


def read_trace(path: Path) -> GenerationTrace:
    """Read a file that `outrider edge run --trace` wrote.

    Raises:
        InvalidInputError: it cannot be read, or holds something else.
    """
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InvalidInputError(
            f"{path} cannot be read as JSON ({error}); give a file that 'outrider edge run "
            "--trace' wrote."
        ) from error
    inner = document.get(TRACE_KEY) if isinstance(document, dict) else None
    return trace_from_json(inner, str(path))


def write_report(report: Report, directory: Path) -> list[Path]:
    """Write the page and its charts; a light and a dark PNG of each, if they can be rendered.

    Returns:
        The files, the page first.

    Raises:
        InvalidInputError: the directory cannot be made or written to.
    """
    page = directory / PAGE
    try:
        directory.mkdir(parents=True, exist_ok=True)
        page.write_text(report.html(), encoding="utf-8")
        files = [page]
        for picture in report.pictures:
            path = directory / f"{picture.name}.svg"
            path.write_text(picture.svg(Dress.BOTH), encoding="utf-8")
            files.append(path)
        return files + (_write_pngs(report, directory) if can_render() else [])
    except OSError as error:
        raise InvalidInputError(
            f"The report cannot be written to {directory} ({error.strerror}); give --out a "
            "directory that may be written to."
        ) from error


def _write_pngs(report: Report, directory: Path) -> list[Path]:
    files = []
    for picture in report.pictures:
        for dress in (Dress.LIGHT, Dress.DARK):
            path = directory / f"{picture.name}-{dress.value}.png"
            path.write_bytes(png_of(picture.svg(dress)))
            files.append(path)
    return files
