"""Every error PhantomSeg raises on purpose.

Each message says what was got, what was wanted and what to do, in one sentence::

    PhantomSegError
    ├── ScanError        a file is not a scan we can use
    ├── GeometryError    an affine, a shape or a spacing makes no sense
    ├── LabelError       a label value, name or set is unknown or inconsistent
    ├── RecipeError      a recipe has an unknown key or a value of the wrong kind
    ├── TemplateError    a folder of label maps cannot be used
    ├── MemoryLimitError a scan needs more memory than it may use
    ├── ModelError       a model folder is incomplete or damaged
    └── TrainingError    a training run cannot start, resume or go on
"""


class PhantomSegError(Exception):
    """Root of the tree: catch this to catch everything raised on purpose."""


def one_sentence(error: BaseException) -> str:
    """What to tell the user of an error, on one line.

    >>> one_sentence(ScanError("scan.nii.gz does not exist; check the path"))
    'scan.nii.gz does not exist; check the path'
    """
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename} cannot be read or written ({error.strerror}); check path, rights and disk"
    return str(error).splitlines()[0] if str(error) else type(error).__name__


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


class MemoryLimitError(PhantomSegError):
    """A scan needs more memory than it may use."""


class ModelError(PhantomSegError):
    """A model folder is incomplete or damaged."""


class TrainingError(PhantomSegError):
    """A training run cannot start, resume or go on."""
