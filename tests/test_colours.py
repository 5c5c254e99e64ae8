"""Colour tables, line by line."""

from __future__ import annotations

import pytest

from phantomseg.labels import label_set, label_set_names
from phantomseg.labels.colours import freesurfer_table, itksnap_table, rgb, slicer_table


def test_freesurfer() -> None:
    lines = freesurfer_table(label_set("head")).splitlines()
    assert lines[:3] == [
        "#No. Label Name:                                      R   G   B   A",
        "0    Unknown                                          0   0   0   0",
        "2    Left-Cerebral-White-Matter                     245 245 245   0",
    ]
    assert "14   3rd-Ventricle                                  204 182 142   0" in lines
    assert "16   Brain-Stem                                     119 159 176   0" in lines
    assert lines[-1].split() == ["530", "Optic-Nerve", "240", "220", "60", "0"]


def test_itksnap() -> None:
    lines = itksnap_table(label_set("tissue")).splitlines()
    assert lines[1] == "# ITK-SnAP Label Description File"
    assert lines[14:17] == [
        '    0     0    0    0        0  0  0    "Clear Label"',
        '    2   245  245  245        1  1  1    "white matter"',
        '    3    60   60  160        1  1  1    "cerebrospinal fluid"',
    ]
    assert all(line.startswith("#") for line in lines[:14])


def test_slicer() -> None:
    assert slicer_table(label_set("brain")) == (
        "# Color table file brain.ctbl\n"
        "# 3 values\n"
        "0 background 0 0 0 0\n"
        "1 brain 205 62 78 255\n"
        "2 cerebrospinal_fluid_around_the_brain 60 60 160 255\n"
    )


@pytest.mark.parametrize("name", label_set_names())
def test_every_label_has_one_row_that_can_be_split(name: str) -> None:
    labels = label_set(name)
    expected = [(label.id, *rgb(label)) for label in labels.labels[1:]]
    freesurfer = [line.split() for line in freesurfer_table(labels).splitlines()[2:]]
    assert [(int(i), int(r), int(g), int(b)) for i, _, r, g, b, _ in freesurfer] == expected
    slicer = [line.split() for line in slicer_table(labels).splitlines()[3:]]
    assert [(int(i), int(r), int(g), int(b)) for i, _, r, g, b, _ in slicer] == expected
    snap = [line.split('"')[0].split() for line in itksnap_table(labels).splitlines()[15:]]
    assert [(int(i), int(r), int(g), int(b)) for i, r, g, b, *_ in snap] == expected
