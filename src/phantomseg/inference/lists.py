"""Scans listed in a file: a text with one path a line, or a table."""

from __future__ import annotations

import csv
import io
from pathlib import Path, PurePath

from phantomseg.errors import ScanError, one_sentence
from phantomseg.inference.names import Found, Names, plain_names

SUFFIXES = (".txt", ".csv", ".tsv")
COLUMNS = ("scan", "path")


def read_list(path: Path) -> list[Found]:
    """Scans that a list names, in its order; paths in it are relative to its folder.

    Args:
        path: a `.txt` file with one path a line, blank lines and lines that begin with # left out; or a `.csv` or
            `.tsv` table with a column `scan` (or `path`), and if wanted `name` (of the results, before their endings;
            may hold folders) and `volume` (of a file of several, counted from 0).

    Raises:
        ScanError: the list cannot be read, has no scan or no such column, or a row makes no sense.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
        if "\0" in text:
            raise csv.Error("it holds null bytes")
        found = _from_lines(path, text) if path.suffix.lower() == ".txt" else _from_table(path, text)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ScanError(f"{path} cannot be read as a list ({one_sentence(error)}); save it as UTF-8 text") from error
    if not found:
        raise ScanError(f"{path} names no scan, wanted one a line; add some")
    return found


def _from_lines(path: Path, text: str) -> list[Found]:
    lines = [line.strip() for line in text.splitlines()]
    scans = [path.parent / line for line in lines if line and not line.startswith("#")]
    return [Found(scan, plain_names(scan)) for scan in scans]


def _from_table(path: Path, text: str) -> list[Found]:
    lines = io.StringIO(text, newline="")
    delimiter = _delimiter(path, text.split("\n", 1)[0])
    header, *rows = list(csv.reader(lines, delimiter=delimiter, strict=True)) or [[]]
    columns = [column.strip().lower() for column in header]
    if not set(COLUMNS) & set(columns):
        raise ScanError(f"{path} has the columns {', '.join(columns) or 'none'}, wanted one named scan; add it")
    found = []
    for number, row in enumerate(rows, 2):
        cells = [cell.strip() for cell in row]
        if any(cells):
            found.append(_from_row(path, number, columns, cells))
    return found


def _delimiter(path: Path, header: str) -> str:
    if path.suffix.lower() == ".tsv":
        return "\t"
    return ";" if ";" in header and "," not in header else ","  # as spreadsheets write it where a comma is decimal


def _from_row(path: Path, number: int, columns: list[str], cells: list[str]) -> Found:
    where = f"row {number} of {path}"
    if len(cells) != len(columns):
        raise ScanError(f"{where} has {len(cells)} cells, wanted {len(columns)}; quote cells that hold a separator")
    row = dict(zip(columns, cells, strict=True))
    entry = row.get("scan") or row.get("path")
    if not entry:
        raise ScanError(f"{where} names no scan; fill in its path, or remove the row")
    scan, name = path.parent / entry, row.get("name", "")
    names = _named(where, name) if name else plain_names(scan)
    return Found(scan, names, _volume(where, row.get("volume", "")), named=bool(name))


def _named(where: str, name: str) -> Names:
    wanted = PurePath(name)
    if wanted.is_absolute() or ".." in wanted.parts or not wanted.name:
        raise ScanError(f"{where} has the name {name!r}, wanted one that stays in the output folder, like ward/scan-1")
    return Names(wanted.parent, wanted.name)


def _volume(where: str, text: str) -> int | None:
    if text in ("", "n/a"):
        return None
    number = text.removesuffix(".0")  # as tables with gaps are often written
    if not number.isdecimal():
        raise ScanError(f"{where} has the volume {text!r}, wanted a number from 0, or nothing for all volumes")
    return int(number)
