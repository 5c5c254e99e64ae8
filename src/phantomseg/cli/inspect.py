"""`phantomseg inspect`."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from phantomseg.cli.options import Reorient, Volume

if TYPE_CHECKING:
    from phantomseg.image.finding import Finding

STYLES = {"ok": "green", "warning": "yellow", "error": "red"}


def run(
    scans: Annotated[list[Path], typer.Argument(metavar="SCAN...", help="NIfTI or MGZ files, or DICOM folders.")],
    volume: Volume = None,
    reorient: Reorient = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")] = False,
) -> None:
    """Look scans over before work: geometry, units, field of view, grey values; says what to do about what is doubtful.

    Nothing is written. Exit code 2 if a scan cannot be used, 0 if there are warnings at most.
    """
    found: list[tuple[Path, tuple[Finding, ...]]] = []
    for scan in scans:
        findings = _look(scan, volume, reorient)
        found.append((scan, findings))
        if not as_json:
            _show(scan, findings)
    if as_json:
        print(json.dumps([_as_record(scan, findings) for scan, findings in found], indent=2))
    if any(not _usable(findings) for _, findings in found):
        raise typer.Exit(2)


def _look(scan: Path, volume: int | None, reorient: str | None) -> tuple[Finding, ...]:
    from phantomseg.errors import PhantomSegError, one_sentence
    from phantomseg.image.checks import check_scan
    from phantomseg.image.files import read_image
    from phantomseg.image.finding import Finding

    try:
        return check_scan(read_image(scan, volume, axcodes=reorient))
    except (PhantomSegError, OSError) as error:
        return (Finding("error", one_sentence(error)),)


def _usable(findings: tuple[Finding, ...]) -> bool:
    return all(finding.level != "error" for finding in findings)


def _as_record(scan: Path, findings: tuple[Finding, ...]) -> dict[str, object]:
    return {"scan": str(scan), "usable": _usable(findings), "findings": [asdict(finding) for finding in findings]}


def _show(scan: Path, findings: tuple[Finding, ...]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(highlight=False)
    table = Table.grid(padding=(0, 2), pad_edge=True)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for finding in findings:
        table.add_row(Text(finding.level, style=STYLES[finding.level]), Text(_printable(finding.what)))
        if finding.fix:
            table.add_row("", Text(f"to do: {finding.fix}", style="dim"))
    console.print(Text(_printable(str(scan)), style="bold"), soft_wrap=True)
    console.print(table)


def _printable(text: str) -> str:
    """Names of files may hold bytes that are no text."""
    return text.encode(errors="replace").decode()
