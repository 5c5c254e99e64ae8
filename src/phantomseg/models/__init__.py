"""Models that come with the package, by name."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

from phantomseg.errors import ModelError
from phantomseg.network.model import Model, load_model

DEFAULT = "head"
ALIASES = {"strip": "shapes"}  # earlier names


def model_names() -> list[str]:
    """Names of the shipped models."""
    return sorted(path.name for path in _folder().iterdir() if (path / "model.json").is_file())


def find_model(name_or_folder: str = DEFAULT) -> Model:
    """A shipped model by name, or a model folder.

    Raises:
        ModelError: neither, or damaged.
    """
    name = ALIASES.get(name_or_folder, name_or_folder)
    if name in model_names():
        return load_model(_folder() / name)
    if Path(name_or_folder).is_dir():
        return load_model(Path(name_or_folder))
    raise ModelError(
        f"there is no model {name_or_folder!r}; give a model folder or one of {', '.join(model_names()) or 'none'}"
    )


def _folder() -> Path:
    return Path(str(resources.files("phantomseg.models")))
