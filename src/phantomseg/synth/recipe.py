"""A recipe says how samples are drawn: read from TOML, one table a step, a missing table omits the step."""

from __future__ import annotations

import dataclasses
import math
import types
import typing
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from phantomseg import toml
from phantomseg.errors import RecipeError
from phantomseg.image.distance import LONGEST_REACH
from phantomseg.labels import label_set
from phantomseg.rng import Distribution, parse_distribution
from phantomseg.synth.artefacts import ArtefactSettings
from phantomseg.synth.bias import BiasSettings
from phantomseg.synth.findings import FindingSettings
from phantomseg.synth.gamma import GammaSettings
from phantomseg.synth.pose import PoseSettings
from phantomseg.synth.pumba import PumbaSettings
from phantomseg.synth.resolution import ResolutionSettings
from phantomseg.synth.shape import ShapeSettings
from phantomseg.synth.shapes import ShapesSettings
from phantomseg.synth.slab import SlabSettings
from phantomseg.synth.source import BORDER, SHAPES, TEMPLATES
from phantomseg.synth.strip import StripSettings
from phantomseg.synth.tissues import TissueSettings
from phantomseg.synth.view import ViewSettings


@dataclass(frozen=True)
class Recipe:
    """Settings of every step; None omits it. Labels come from one of three steps: `pose`, `shapes` or `pumba`."""

    target: str  # label set of the target
    tissues: TissueSettings
    pose: PoseSettings | None = None  # of a template
    shapes: ShapesSettings | None = None  # out of nothing
    pumba: PumbaSettings | None = None  # out of nothing, as the paper has them
    distance_voxels: int | None = None  # the network learns the distance to the target's surface, up to this one
    fine_voxels_per_mm: int = 1  # above 1, labels are painted on a finer grid and averaged (partial volume)
    fine_probability: float = 1.0  # of samples that are painted so
    shape: ShapeSettings | None = None
    findings: FindingSettings | None = None
    strip: StripSettings | None = None
    bias: BiasSettings | None = None
    gamma: GammaSettings | None = None
    artefacts: ArtefactSettings | None = None
    resolution: ResolutionSettings | None = None
    view: ViewSettings | None = None
    slab: SlabSettings | None = None
    closed_voxels: float = 0.0  # half-width of what lies between parts of the brain and is yet within its mask
    also: tuple[Part, ...] = ()  # other recipes, of which some samples are

    @property
    def parts(self) -> tuple[tuple[float, Recipe], ...]:
        """This recipe and the others, each with its weight."""
        return (1.0, self), *((part.weight, part.recipe) for part in self.also)

    @property
    def needs_templates(self) -> bool:
        """Whether samples come from label maps."""
        return any(recipe.pose is not None for _, recipe in self.parts)

    @property
    def labels_from(self) -> PoseSettings | ShapesSettings | PumbaSettings:
        """Settings of the step that labels come from."""
        (chosen,) = self._sources()
        return chosen

    @property
    def source(self) -> str:
        """Label set of the label maps that images are painted from."""
        return SHAPES if self.pose is None else TEMPLATES

    @property
    def crop_voxels(self) -> tuple[int, int, int]:
        """Size of the samples."""
        return self.labels_from.crop_voxels

    @property
    def spacing_mm(self) -> float:
        """Voxel of the samples as the network is used: that of shapes in a human head, where there are any."""
        sources = [recipe.labels_from for _, recipe in self.parts]
        return next((one.human_mm for one in sources if not isinstance(one, PoseSettings)), 1.0)

    def __post_init__(self) -> None:
        if len(self._sources()) != 1:
            raise RecipeError(
                f"recipe has {len(self._sources())} of the tables [pose], [shapes] and [pumba], wanted one, as labels "
                "come from there"
            )
        if self.pose is None and (self.shape or self.findings):
            raise RecipeError(
                "recipe has [shape] or [findings] without [pose]; these steps need templates, remove them"
            )
        if self.distance_voxels is not None and not (
            self.target == "mask" and 1 < self.distance_voxels < LONGEST_REACH
        ):
            raise RecipeError(
                f"recipe has distance_voxels {self.distance_voxels} and target {self.target!r}, wanted 2 to "
                f"{LONGEST_REACH - 1} and target 'mask'; correct the two"
            )
        if self.distance_voxels is not None and self.fine_voxels_per_mm > 1:
            raise RecipeError(
                f"recipe has distance_voxels and fine_voxels_per_mm {self.fine_voxels_per_mm}, wanted 1 of the latter, "
                "as distances know parts of voxels anyway; leave one of them out"
            )

        if self.closed_voxels and (
            self.target not in ("mask", BORDER)
            or self.fine_voxels_per_mm > 1
            or not 0 < self.closed_voxels < LONGEST_REACH
        ):
            raise RecipeError(
                f"recipe has closed_voxels {self.closed_voxels:g} with target {self.target!r} and fine_voxels_per_mm "
                f"{self.fine_voxels_per_mm}, wanted less than {LONGEST_REACH}, target 'mask' or 'border', and 1"
            )
        for part in self.also:
            wanted, got = ((r.target, r.crop_voxels, r.distance_voxels) for r in (self, part.recipe))
            if wanted != got or part.recipe.also or not 0 < part.weight < math.inf:
                raise RecipeError(
                    f"recipe names another one with target, crop and distance_voxels {got} and weight {part.weight:g}, "
                    f"wanted {wanted}, a weight above 0, and no [[also]] in it; correct it"
                )

    def _sources(self) -> list[PoseSettings | ShapesSettings | PumbaSettings]:
        return [one for one in (self.pose, self.shapes, self.pumba) if one is not None]


@dataclass(frozen=True)
class Part:
    """Another recipe, and how often its samples come, relative to the 1 of the recipe that names it."""

    recipe: Recipe
    weight: float = 1.0


def recipe_names() -> list[str]:
    """Names of the recipes that come with the package.

    >>> recipe_names()
    ['find', 'head', 'pumba', 'shapes', 'supervised', 'synthseg', 'universal']
    """
    folder = resources.files("phantomseg") / "recipes"
    return sorted(p.name.removesuffix(".toml") for p in folder.iterdir() if p.name.endswith(".toml"))


def load_recipe(name_or_path: str) -> Recipe:
    """A shipped recipe by name, or a TOML file.

    Raises:
        RecipeError: not there, not TOML, an unknown key, or a value of the wrong kind.
    """
    return parse_recipe(_read(name_or_path))


def _read(name_or_path: str) -> dict[str, Any]:
    shipped = resources.files("phantomseg") / "recipes" / f"{name_or_path}.toml"
    path = Path(name_or_path)
    if path.suffix == ".toml" and path.is_file():
        content = path.read_bytes()
    elif name_or_path in recipe_names():
        content = shipped.read_bytes()
    else:
        raise RecipeError(
            f"there is no recipe {name_or_path!r}; give a .toml file or one of {', '.join(recipe_names())}"
        )
    try:
        return toml.loads(content.decode("utf-8"))
    except (toml.TOMLDecodeError, UnicodeDecodeError) as error:
        raise RecipeError(f"recipe {name_or_path} is not valid TOML ({error}); correct that line") from error


def parse_recipe(content: dict[str, Any]) -> Recipe:
    """A recipe from nested dictionaries, as in TOML or in a model's record."""
    recipe: Recipe = _parse(Recipe, content, "")
    label_set(recipe.target)
    return recipe


def record(value: Any) -> Any:
    """Plain dictionaries and lists that `parse_recipe` reads back.

    >>> from phantomseg.rng import Uniform
    >>> record(Uniform(0, 1))
    {'uniform': [0, 1]}
    """
    kinds = {"Uniform": "uniform", "LogUniform": "loguniform", "Normal": "normal"}
    name = type(value).__name__
    if name == "Constant":
        return value.value
    if name in kinds:
        return {kinds[name]: list(dataclasses.astuple(value))}
    if dataclasses.is_dataclass(value):
        pairs = ((f.name, getattr(value, f.name)) for f in dataclasses.fields(value))
        return {key: record(inner) for key, inner in pairs if inner is not None}
    return [record(one) for one in value] if isinstance(value, tuple) else value


def _parse(kind: type, content: Any, where: str) -> Any:
    if not isinstance(content, dict):
        raise RecipeError(f"recipe key {where} is {content!r}, wanted a table; write [{where}]")
    hints = typing.get_type_hints(kind)
    unknown = sorted(set(content) - set(hints))
    if unknown:
        raise RecipeError(f"recipe has an unknown key {_join(where, unknown[0])!r}; known here are {', '.join(hints)}")
    required = {f.name for f in dataclasses.fields(kind) if f.default is dataclasses.MISSING}
    for name in sorted(required - set(content)):
        raise RecipeError(f"recipe lacks the key {_join(where, name)!r}; add it")
    return kind(**{key: _value(hints[key], value, _join(where, key)) for key, value in content.items()})


def _value(hint: Any, value: Any, where: str) -> Any:
    if hint == Distribution:
        return parse_distribution(value, where)
    if isinstance(hint, types.UnionType):
        hint = typing.get_args(hint)[0]
    if hint is Recipe and isinstance(value, str):
        return _parse(Recipe, _read(value), where)
    if dataclasses.is_dataclass(hint):
        return _parse(typing.cast(type, hint), value, where)
    if typing.get_origin(hint) is tuple:
        return _tuple(typing.get_args(hint), value, where)
    if hint is float and isinstance(value, int | float) and not isinstance(value, bool):
        return _number(float(value), where)
    if (hint is int and type(value) is int and value > 0) or (hint in (str, bool) and type(value) is hint):
        return value
    kinds = {float: "a number", int: "a whole number above 0", str: "a string", bool: "true or false"}
    wanted = kinds.get(hint, "another kind")
    raise RecipeError(f"recipe key {where} is {value!r}, wanted {wanted}")


def _tuple(hints: tuple[Any, ...], value: Any, where: str) -> tuple[Any, ...]:
    if hints == (Part, ...):
        if not isinstance(value, list):
            raise RecipeError(f"recipe key {where} is {value!r}, wanted tables; write [[{where}]]")
        return tuple(_parse(Part, one, where) for one in value)
    if isinstance(value, list) and len(value) == len(hints) and all(type(v) is int and v > 0 for v in value):
        return tuple(value)
    raise RecipeError(f"recipe key {where} is {value!r}, wanted {len(hints)} whole numbers above 0")


def _number(value: float, where: str) -> float:
    if "probability" in where and not 0 <= value <= 1:
        raise RecipeError(f"recipe key {where} is {value:g}, wanted a probability between 0 and 1")
    if where.endswith("nodes_mm") and not 0 < value < math.inf:
        raise RecipeError(f"recipe key {where} is {value:g}, wanted a distance above 0")
    return value


def _join(where: str, key: str) -> str:
    return f"{where}.{key}" if where else key
