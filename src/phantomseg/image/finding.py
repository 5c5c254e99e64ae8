"""What a look at a scan found."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Level = Literal["ok", "warning", "error"]


@dataclass(frozen=True)
class Finding:
    """One thing found: how bad it is, what it is with its value, and what to do about it.

    A warning leaves the scan usable; after an error it is not.
    """

    level: Level
    what: str
    fix: str = ""
