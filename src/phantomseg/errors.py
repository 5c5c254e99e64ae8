"""Every error PhantomSeg raises on purpose.

Each message says what was got, what was wanted and what to do, in one sentence::

    PhantomSegError
    ├── ScanError        a file is not a scan we can use
    ├── GeometryError    an affine, a shape or a spacing makes no sense
    ├── LabelError       a label value, name or set is unknown or inconsistent
    ├── RecipeError      a recipe has an unknown key or a value of the wrong kind
    ├── TemplateError    a folder of label maps cannot be used
    ├── ModelError       a model folder is incomplete or damaged
    └── TrainingError    a training run cannot start, resume or go on
"""


class PhantomSegError(Exception):
    """Root of the tree: catch this to catch everything raised on purpose."""


class ScanError(PhantomSegError):
    """A file is not a scan we can use."""


class GeometryError(PhantomSegError):
    """An affine, a shape or a spacing makes no sense."""


class LabelError(PhantomSegError):
    """A label value, name or set is unknown or inconsistent."""


class RecipeError(PhantomSegError):
    """A recipe has an unknown key or a value of the wrong kind."""


class TemplateError(PhantomSegError):
    """A folder of label maps cannot be used."""


class ModelError(PhantomSegError):
    """A model folder is incomplete or damaged."""


class TrainingError(PhantomSegError):
    """A training run cannot start, resume or go on."""
