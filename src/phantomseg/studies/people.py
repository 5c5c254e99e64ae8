"""Who took part: age, sex, group and head size of each person, from a table."""

from __future__ import annotations

import csv
import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from phantomseg.errors import ScanError

COLUMNS = {"id": "participant_id", "age": "age", "sex": "sex", "group": "group", "icv": "icv"}
GROUP_KEYS = (*COLUMNS, "controls", "patients")
NOTHING = ("", "n/a", "na", "nan")


@dataclass(frozen=True)
class Person:
    """A line of the table of participants."""

    age: float
    sex: float  # 1 for the first of the two words in order, else 0
    group: str
    icv_mm3: float | None


def plain(name: str) -> str:
    """Identifier of a person without the prefix of BIDS.

    >>> plain("sub-01"), plain("01")
    ('01', '01')
    """
    return name.removeprefix("sub-")


def read_people(path: Path | None, group: dict[str, Any]) -> tuple[dict[str, Person], dict[str, str]]:
    """People of the two groups by identifier, and a sentence for each of them who lacks a value.

    The column of intracranial volume counts where everybody has one: two sources of it cannot be compared.

    Raises:
        ScanError: the table cannot be read, or lacks a column or one of the groups, or names somebody twice.
    """
    unknown = sorted(set(group) - set(GROUP_KEYS))
    if unknown:
        raise ScanError(f"[group] has an unknown key {unknown[0]!r}; known are {', '.join(GROUP_KEYS)}")
    names = {key: str(group.get(key, usual)) for key, usual in COLUMNS.items()}
    wanted = [str(group.get(key, key)) for key in ("controls", "patients")]
    assert path is not None
    rows = [row for row in _lines(path, names) if row[names["group"]] in wanted]
    lacking = [word for word in wanted if word not in {row[names["group"]] for row in rows}]
    if lacking:
        raise ScanError(f"participants {path} have nobody in group {lacking[0]!r}; correct [group] of the TOML")
    sexes = sorted({row[names["sex"]] for row in rows} - set(NOTHING))
    if len(sexes) > 2:
        raise ScanError(f"participants {path} have the sexes {', '.join(sexes)}, wanted two words; spell them alike")
    people: dict[str, Person] = {}
    faults: dict[str, str] = {}
    for row in rows:
        name = plain(row[names["id"]])
        if name in people or name in faults:
            raise ScanError(f"participants {path} name {name!r} twice, wanted one line a person; leave one out")
        age, icv = (_number(row.get(names[key])) for key in ("age", "icv"))
        if age is None or row[names["sex"]] not in sexes:
            faults[name] = f"{name} of participants {path} has no age or no sex; fill it in"
        else:
            people[name] = Person(age, float(row[names["sex"]] == sexes[0]), row[names["group"]], icv)
    if any(person.icv_mm3 is None for person in people.values()):
        people = {name: replace(person, icv_mm3=None) for name, person in people.items()}
    return people, faults


def _lines(path: Path, names: dict[str, str]) -> list[dict[str, str]]:
    """Lines of the table; cells that are missing are empty, those of nothing too."""
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            rows = list(csv.DictReader(file, delimiter="," if path.suffix == ".csv" else "\t", restval=""))
    except OSError as error:
        raise ScanError(f"participants {path} cannot be read ({error.strerror}); check the path") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise ScanError(f"participants {path} are no table in UTF-8 ({error}); save them as such") from error
    for key in ("id", "age", "sex", "group"):
        if not rows or names[key] not in rows[0]:
            raise ScanError(f"participants {path} have no column {names[key]!r}; name the one meant in [group].{key}")
    return [{key: _said(value) for key, value in row.items() if key is not None} for row in rows]


def _said(value: str) -> str:
    text = value.strip()
    return "" if text.lower() in NOTHING else text


def _number(text: str | None) -> float | None:
    try:
        value = float(text or "nan")
    except ValueError:
        return None
    return value if math.isfinite(value) else None
