"""Colour tables of a label set, as viewers read them."""

from __future__ import annotations

from phantomseg.labels.labelset import Label, LabelSet

_ITK_SNAP = """\
################################################
# ITK-SnAP Label Description File
# File format:
# IDX   -R-  -G-  -B-  -A--  VIS MSH  LABEL
# Fields:
#    IDX:   Zero-based index
#    -R-:   Red color component (0..255)
#    -G-:   Green color component (0..255)
#    -B-:   Blue color component (0..255)
#    -A-:   Label transparency (0.00 .. 1.00)
#    VIS:   Label visibility (0 or 1)
#    IDX:   Label mesh visibility (0 or 1)
#  LABEL:   Label description
################################################
    0     0    0    0        0  0  0    "Clear Label"
"""


def freesurfer_table(labels: LabelSet) -> str:
    """Text for FreeSurfer and Freeview (`.ctab`), with names spelt as FreeSurfer does: "Left-Putamen".

    The last column is transparency there, so that 0 is opaque; value 0 is never drawn.
    """
    rows = [f"#No. {'Label Name:':<46}   R   G   B   A", _freesurfer_row(0, "Unknown", (0, 0, 0))]
    rows += [_freesurfer_row(label.id, _capitals(label.name), rgb(label)) for label in labels.labels[1:]]
    return "\n".join(rows) + "\n"


def itksnap_table(labels: LabelSet) -> str:
    """Label descriptions for ITK-SNAP (`.txt`); the background is clear."""
    rows = []
    for label in labels.labels[1:]:
        red, green, blue = rgb(label)
        rows.append(f'{label.id:>5} {red:>5} {green:>4} {blue:>4} {1:>8} {1:>2} {1:>2}    "{label.name}"\n')
    return _ITK_SNAP + "".join(rows)


def slicer_table(labels: LabelSet) -> str:
    """Colour table for 3D Slicer (`.ctbl`); the background has no opacity."""
    rows = [f"# Color table file {labels.name}.ctbl", f"# {len(labels)} values", "0 background 0 0 0 0"]
    for label in labels.labels[1:]:
        red, green, blue = rgb(label)
        rows.append(f"{label.id} {label.name.replace(' ', '_')} {red} {green} {blue} 255")
    return "\n".join(rows) + "\n"


def rgb(label: Label) -> tuple[int, int, int]:
    """Red, green and blue of a label, 0 to 255.

    >>> rgb(Label(1, "brain", "", "brain", "#cd3e4e"))
    (205, 62, 78)
    """
    red, green, blue = bytes.fromhex(label.color.removeprefix("#"))
    return red, green, blue


def _freesurfer_row(value: int, name: str, color: tuple[int, int, int]) -> str:
    return f"{value:<4} {name:<46} {color[0]:>3} {color[1]:>3} {color[2]:>3}   0"


def _capitals(name: str) -> str:
    words = name.replace("-", " ").split()
    return "-".join(word[0].upper() + word[1:] for word in words)
