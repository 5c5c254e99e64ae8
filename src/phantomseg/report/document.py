"""One file that holds a whole page: style, scripts and data, and nothing from outside."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import math
from datetime import datetime
from importlib import resources
from typing import Any

THIN_SPACE = "\u202f"
FOOTER = "For research use; not for diagnosis."


def document(title: str, body: str, scripts: list[str], data: dict[str, Any]) -> str:
    """A page whose policy lets the browser load nothing, and run only the scripts named.

    Args:
        title: plain text.
        body: HTML, in which everything that was not written here is escaped.
        scripts: files of `assets`, run in this order at the end.
        data: id of a JSON element each, and what it holds.
    """
    codes = [asset("errors.js"), *map(asset, scripts)]
    hashes = " ".join(f"'sha256-{_sha256(code)}'" for code in codes)
    policy = f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src {hashes}; base-uri 'none'"
    elements = "\n".join(json_element(key, value) for key, value in data.items())
    rest = "\n".join(f"<script>{code}</script>" for code in codes[1:])
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{safe(title)}</title>
<style>
{asset("page.css")}</style>
<script>{codes[0]}</script>
</head>
<body>
{body}
<footer>{FOOTER}</footer>
{elements}
{rest}
</body>
</html>
"""


def asset(name: str) -> str:
    """Text of a file of `assets`."""
    return (resources.files("phantomseg.report") / "assets" / name).read_text(encoding="utf-8")


def safe(text: object) -> str:
    """Text as HTML shows it, in an element or in a quoted attribute.

    >>> safe("<b>")
    '&lt;b&gt;'
    """
    return html.escape(str(text), quote=True)


def json_element(key: str, value: Any) -> str:
    """A script element of data; no string in it can end the element."""
    return f'<script type="application/json" id="{safe(key)}">{json_text(value)}</script>'


def json_text(value: Any) -> str:
    """JSON that may stand in a script element; numbers that are not finite become null.

    >>> json_text({"a": "</b>", "b": float("nan")}).replace(chr(92), "_")
    '{"a":"_u003c/b_u003e","b":null}'
    """
    text = json.dumps(_finite(value), separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def number(value: float | None, digits: int = 0, unit: str = "") -> str:
    """A number with thin spaces between thousands and before the unit; a dash where there is none.

    >>> number(1234567.8).replace(THIN_SPACE, "_"), number(None), number(-2.25, 1)
    ('1_234_568', '–', '−2.2')
    """
    if value is None or not math.isfinite(value):
        return "–"
    rounded = round(value, digits) + 0.0  # without a minus before zero
    text = f"{rounded:,.{digits}f}".replace(",", THIN_SPACE).replace("-", "−")
    return f"{text}{THIN_SPACE}{unit}" if unit else text


def volume_text(value_mm3: float | None) -> str:
    """Cubic millimetres, with a digit after the point below a hundred.

    >>> volume_text(12.34), volume_text(7000.1).replace(THIN_SPACE, "_")
    ('12.3', '7_000')
    """
    return number(value_mm3, 1 if value_mm3 is not None and abs(value_mm3) < 100 else 0)


def date_text(finished: str | None) -> str:
    """Date and minute of an ISO 8601 time; anything else as it is.

    >>> date_text("2026-11-21T18:00:00+00:00")
    '2026-11-21 18:00 UTC'
    """
    try:
        moment = datetime.fromisoformat(str(finished))
    except ValueError:
        return "–" if finished is None else str(finished)
    return f"{moment:%Y-%m-%d %H:%M} {moment.tzname() or ''}".strip()


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _sha256(code: str) -> str:
    return base64.b64encode(hashlib.sha256(code.encode("utf-8")).digest()).decode("ascii")
