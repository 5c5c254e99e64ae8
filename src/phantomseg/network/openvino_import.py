"""OpenVINO, where it is installed, without the package that reports its use to Intel."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from typing import Any

from phantomseg.errors import PhantomSegError, one_sentence

REPORTER = "openvino_telemetry"


def openvino_available() -> bool:
    """Whether OpenVINO is installed; it is not imported for that."""
    return "openvino" in sys.modules or importlib.util.find_spec("openvino") is not None


def openvino() -> Any:
    """The module `openvino`.

    Importing it sends a message over the network and writes to the home directory, unless its reporter is missing. To
    whom a scan is nobody's business, the reporter is missing.

    Raises:
        PhantomSegError: it is not installed, or damaged.
    """
    if "openvino" in sys.modules:
        return sys.modules["openvino"]
    if not openvino_available():
        raise PhantomSegError("backend 'openvino' is not installed; run pip install 'phantomseg[openvino]'")
    modules: dict[str, Any] = sys.modules
    hidden = modules.get(REPORTER)
    modules[REPORTER] = None  # an import of it fails, which OpenVINO is prepared for
    try:
        return importlib.import_module("openvino")
    except ImportError as error:
        reason = one_sentence(error)
        raise PhantomSegError(
            f"openvino cannot be imported ({reason}); install it again, or choose backend torch"
        ) from error
    finally:
        del modules[REPORTER]
        if hidden is not None:
            modules[REPORTER] = hidden
