"""A model: network, label set, and the folder it is kept in."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors.torch import load_file, save_file
from torch import nn

from phantomseg.errors import LabelError, ModelError, one_sentence
from phantomseg.image.distance import LONGEST_REACH
from phantomseg.image.files import write_atomically
from phantomseg.image.size import SMALL_ML
from phantomseg.labels import LabelSet, Merge, label_set, merge
from phantomseg.network.fast import FastConfig, FastNet
from phantomseg.network.norms import Norms
from phantomseg.network.unet import UNet, UNetConfig
from phantomseg.network.volume import Block

NETWORKS: dict[str, tuple[type, type]] = {"fast": (FastConfig, FastNet), "unet": (UNetConfig, UNet)}


class Network(Protocol):
    """What training and inference ask of a network, whichever it is."""

    multiple: int
    bytes_a_voxel: int

    def encode(self, image: torch.Tensor, norms: Norms | None = None) -> Any:
        """Everything about the whole image (B, 1, I, J, K) that `decode` needs."""

    def decode(self, encoded: Any, image: torch.Tensor, block: Block) -> torch.Tensor:
        """Logits (B, C, …) of a block of voxels."""

    def supervised(self, image: torch.Tensor, block: Block) -> list[tuple[torch.Tensor, Block]]:
        """Logits to train, each with the block of voxels they speak of."""


@dataclass(frozen=True, eq=False)
class Model:
    """A network that labels voxels of `spacing_mm` with channels of `labels`."""

    network: nn.Module
    labels: LabelSet
    spacing_mm: float = 1.0
    record: dict[str, Any] = field(default_factory=dict, repr=False)  # how it was trained
    calibration: dict[str, Any] | None = field(default=None, repr=False)  # what tells how good a result is
    weights_sha256: str = ""
    refines: bool = True  # boundaries of tissues and nuclei, by each scan's intensities

    @property
    def device(self) -> torch.device:
        """Where the network computes."""
        return next(self.network.parameters()).device

    def label_set(self, name: str) -> LabelSet:
        """Labels of a result in the set `name`; of the model's own set, those that it knows."""
        return self.labels if name == self.labels.name else label_set(name)

    def merge(self, name: str) -> Merge:
        """From the model's labels to the set `name`.

        Raises:
            LabelError: its labels do not merge into that set.
        """
        known = self.labels.ids.tolist()
        if label_set(name).name == self.labels.name:
            return Merge(tuple(known), tuple(known), self.labels)
        return merge(self.labels.name, name).only(known)

    def reaches(self, name: str) -> bool:
        """Whether `merge` of that name is possible."""
        try:
            self.merge(name)
        except LabelError:
            return False
        return True

    @property
    def enlarges(self) -> bool:
        """Whether it is to see the heads of infants and fetuses at the size of an adult's.

        So it is for models of the brain whose record says that none of the heads they learnt from was small.
        """
        runs = (self.record, *self.record.get("earlier", ()))
        smallest = [run["smallest_head_ml"] for run in runs if run.get("smallest_head_ml")]
        return min(smallest, default=0.0) >= SMALL_ML and self.reaches("brain")

    @property
    def distance_voxels(self) -> int | None:
        """Reach of the signed distances that it predicts; None where it predicts classes."""
        reach: int | None = self.record.get("recipe", {}).get("distance_voxels")
        return reach

    @property
    def crop_voxels(self) -> tuple[int, int, int] | None:
        """Size of the images that it was trained on, where its record tells."""
        recipe = self.record.get("recipe", {})
        sizes = [recipe[step]["crop_voxels"] for step in ("pose", "shapes", "pumba") if step in recipe]
        return tuple(sizes[0]) if sizes else None


def build_network(kind: str, config: dict[str, Any]) -> nn.Module:
    """A network of random weights from its name and the fields of its configuration."""
    if kind not in NETWORKS:
        raise ModelError(f"there is no network {kind!r}; choose one of {', '.join(NETWORKS)}")
    config_kind, network_kind = NETWORKS[kind]
    values = {key: tuple(v) if isinstance(v, list) else v for key, v in config.items()}
    network: nn.Module = network_kind(config_kind(**values))
    return network


def network_name(network: nn.Module) -> str:
    """Name under which `build_network` makes this kind of network."""
    return next(name for name, (_, kind) in NETWORKS.items() if type(network) is kind)


def save_model(folder: Path, model: Model) -> None:
    """Write weights (float16) and description; a folder that exists is replaced file by file."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    state = {k: v.detach().cpu().contiguous() for k, v in model.network.state_dict().items()}
    weights = {k: v.half() if v.is_floating_point() else v for k, v in state.items()}
    write_atomically(folder / "weights.safetensors", lambda temporary: save_file(weights, temporary))
    description = {
        "format": 1,
        "network": network_name(model.network),
        "config": dataclasses.asdict(model.network.config),  # type: ignore[call-overload]
        "labels": model.labels.name,
        "label_ids": model.labels.ids.tolist(),
        "spacing_mm": model.spacing_mm,
        "weights_sha256": sha256(folder / "weights.safetensors"),
        "record": model.record,
    }
    text = json.dumps(description, indent=1)
    write_atomically(folder / "model.json", lambda temporary: Path(temporary).write_text(text + "\n"))


def load_model(folder: Path) -> Model:
    """Read what `save_model` wrote.

    Raises:
        ModelError: a file is missing, damaged, or does not fit the other.
    """
    folder = Path(folder)
    for name in ("model.json", "weights.safetensors"):
        if not (folder / name).is_file():
            raise ModelError(f"model folder {folder} lacks {name}; copy the whole folder, or train again")
    try:
        description = json.loads((folder / "model.json").read_text(encoding="utf-8"))
        labels = label_set(description["labels"]).only(description["label_ids"])
        if sha256(folder / "weights.safetensors") != description["weights_sha256"]:
            raise ModelError("weights.safetensors is not the file that model.json describes")
        network = build_network(description["network"], description["config"])
        weights = load_file(folder / "weights.safetensors")
        if (classes := description["config"]["classes"]) != len(labels) and classes != 1:
            raise ModelError(f"it has {classes} classes and {len(labels)} labels")
        network.load_state_dict({name: value.float() for name, value in weights.items()})
        spacing_mm, record = float(description["spacing_mm"]), description["record"]
        if not spacing_mm > 0:
            raise ModelError(f"spacing_mm is {spacing_mm}, wanted more than 0")
        if (reach := record.get("recipe", {}).get("distance_voxels")) not in (None, *range(2, LONGEST_REACH)):
            raise ModelError(f"distance_voxels is {reach}, wanted 2 to {LONGEST_REACH - 1}")
        calibration = _calibration(folder / "calibration.json", description["weights_sha256"])
    except Exception as error:
        reason = one_sentence(error)
        raise ModelError(f"model folder {folder} is damaged ({reason}); copy the whole folder again") from error
    return Model(network.eval(), labels, spacing_mm, record, calibration, description["weights_sha256"])


def _calibration(path: Path, weights_sha256: str) -> dict[str, Any] | None:
    """What was fitted for these very weights, None where nothing was."""
    if not path.is_file():
        return None
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content if content["weights_sha256"] == weights_sha256 else None


def sha256(path: Path) -> str:
    """Checksum of a file, in hexadecimal."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while part := file.read(2**22):
            digest.update(part)
    return digest.hexdigest()
