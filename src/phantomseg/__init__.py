"""Train on phantoms, segment the real thing: the public names.

The verbs are `segment`, `strip`, `synthesize`, `train` and `evaluate`; nothing heavy is imported before a name is used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from phantomseg.environment import prepare_environment

if TYPE_CHECKING:
    from phantomseg.evaluation.evaluate import evaluate
    from phantomseg.image.files import read_image, read_labels, write_image
    from phantomseg.image.image import Image
    from phantomseg.inference.segment import Segmentation, segment
    from phantomseg.inference.strip import Stripped, strip
    from phantomseg.labels import LabelSet, label_set, merge
    from phantomseg.models import find_model
    from phantomseg.network.model import Model, load_model, save_model
    from phantomseg.synth.generate import generate as synthesize
    from phantomseg.synth.recipe import Recipe, load_recipe
    from phantomseg.synth.templates import Templates, load_templates, no_templates
    from phantomseg.training.config import TrainConfig
    from phantomseg.training.loop import Run, train

__version__ = "0.1.0"

prepare_environment()  # in time only if this package is imported before torch

_HOME = {
    "Image": "image.image",
    "LabelSet": "labels",
    "Model": "network.model",
    "Recipe": "synth.recipe",
    "Run": "training.loop",
    "Segmentation": "inference.segment",
    "Stripped": "inference.strip",
    "Templates": "synth.templates",
    "TrainConfig": "training.config",
    "evaluate": "evaluation.evaluate",
    "find_model": "models",
    "label_set": "labels",
    "load_model": "network.model",
    "load_recipe": "synth.recipe",
    "load_templates": "synth.templates",
    "merge": "labels",
    "no_templates": "synth.templates",
    "read_image": "image.files",
    "read_labels": "image.files",
    "save_model": "network.model",
    "segment": "inference.segment",
    "strip": "inference.strip",
    "synthesize": "synth.generate",
    "train": "training.loop",
    "write_image": "image.files",
}

__all__ = [
    "Image", "LabelSet", "Model", "Recipe", "Run", "Segmentation", "Stripped", "Templates", "TrainConfig", "evaluate",
    "find_model", "label_set", "load_model", "load_recipe", "load_templates", "merge", "no_templates", "read_image",
    "read_labels", "save_model", "segment", "strip", "synthesize", "train", "write_image",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'phantomseg' has no name {name!r}")
    module = import_module(f"phantomseg.{_HOME[name]}")
    return getattr(module, "generate" if name == "synthesize" else name)
