from __future__ import annotations

import numpy as np
import pytest

from phantomseg.errors import LabelError
from phantomseg.labels import Label, LabelSet, label_set, label_set_names, merge
from phantomseg.labels.merge import merge_names

# fmt: off
SYNTHSEG = [
    0, 2, 3, 4, 5, 7, 8, 10, 11, 12, 13, 14, 15, 16, 17, 18, 24, 26, 28,
    41, 42, 43, 44, 46, 47, 49, 50, 51, 52, 53, 54, 58, 60,
]
# fmt: on
MERGES = [name.split(" to ") for name in merge_names()]
SIDED = ["evaluation", "freesurfer", "generation", "head"]


def name_of(labels: str, value: int) -> str:
    chosen = label_set(labels)
    return chosen.names[chosen.ids.tolist().index(value)]


def become(source: str, target: str, *values: int) -> list[int]:
    return merge(source, target).apply(np.array(values)).tolist()


def small(*labels: Label) -> LabelSet:
    return LabelSet("small", (Label(0, "background", "", "background", "#000000"), *labels))


def label(number: int, name: str, side: str = "") -> Label:
    return Label(number, name, side, "tissue", "#123456")


@pytest.mark.parametrize("name", label_set_names())
def test_every_set_loads(name: str) -> None:
    labels = label_set(name)
    assert labels.name == name
    assert labels.ids[0] == 0 and labels.names[0] == "background"
    assert len(labels) == len(labels.ids) == len(set(labels.names))
    assert labels.index_of_ids(labels.ids).tolist() == list(range(len(labels)))
    for entry in labels.labels:
        assert entry.tissue
        assert entry.color[0] == "#" and len(entry.color) == 7 and int(entry.color[1:], 16) >= 0


def test_values_of_the_sets() -> None:
    assert label_set("freesurfer").ids.tolist() == SYNTHSEG
    assert label_set("evaluation").ids.tolist() == [*SYNTHSEG, 602, 630]
    assert label_set("siam").ids.tolist() == list(range(17))
    assert label_set("brain").ids.tolist() == [0, 1, 2]
    assert label_set("tissue").ids.tolist() == [0, 2, 3, 4, 5, 6, 8, 9, 10, 11]
    assert len(label_set("head")) == 45
    generation = label_set("generation").ids.tolist()
    assert len(generation) == 54 + 1 and 520 in generation  # 54 values of the templates, and the dura


@pytest.mark.parametrize("name", label_set_names())
def test_mirror_swaps_sides_and_nothing_else(name: str) -> None:
    labels = label_set(name)
    mirror = labels.mirror
    assert mirror[mirror].tolist() == list(range(len(labels)))
    for here, there in enumerate(mirror):
        one, other = labels.labels[here], labels.labels[there]
        assert {one.side, other.side} in ({""}, {"left", "right"})
        assert one.structure == other.structure and one.tissue == other.tissue and one.contrast == other.contrast
        assert (here == there) == (one.side == "")


@pytest.mark.parametrize("name", SIDED)
def test_mirror_of_known_values(name: str) -> None:
    labels = label_set(name)
    pairs = dict(zip(labels.ids.tolist(), labels.ids[labels.mirror].tolist(), strict=True))
    assert [pairs[value] for value in (2, 3, 17, 12, 60, 16, 0)] == [41, 42, 53, 51, 28, 16, 0]


@pytest.mark.parametrize("source, target", MERGES)
def test_merge_is_total_and_its_targets_exist(source: str, target: str) -> None:
    found = merge(source, target)
    if source in label_set_names():
        assert list(found.source_ids) == label_set(source).ids.tolist()
    assert list(found.source_ids) == sorted(set(found.source_ids))
    assert set(found.target_ids) <= set(label_set(target).ids.tolist())
    assert (found.channels >= 0).all()
    assert found.target_ids[0] == 0 == found.source_ids[0]


@pytest.mark.parametrize("source, target", [pair for pair in MERGES if pair[0] in SIDED])
def test_merge_keeps_sides(source: str, target: str) -> None:
    found, before, after = merge(source, target), label_set(source), label_set(target)
    for entry, channel in zip(before.labels, found.channels, strict=True):
        assert {entry.side, after.labels[channel].side} != {"left", "right"}
    # merging and mirroring give the same in either order
    assert found.channels[before.mirror].tolist() == after.mirror[found.channels].tolist()


def test_every_set_but_one_comes_from_the_head() -> None:
    reached = {target for source, target in MERGES if source == "head"}
    assert reached == {"brain", "freesurfer", "intracranial", "mask", "siam", "tissue"}
    assert len(merge("neuromorphometrics", "evaluation").source_ids) > 130


@pytest.mark.parametrize("name", ["siam", "tissue", "brain"])
def test_brain_is_one_piece_in_sets_without_sides(name: str) -> None:
    head_to_brain, head_to_set = merge("head", "brain"), merge("head", name)
    sources: dict[int, set[bool]] = {}
    for is_brain, there in zip(head_to_brain.target_ids, head_to_set.target_ids, strict=True):
        sources.setdefault(there, set()).add(is_brain == 1)
    whole = {there for there, kinds in sources.items() if kinds == {True}}
    assert {label.id for label in label_set(name).labels if label.topology == "brain"} == whole


@pytest.mark.parametrize("name", label_set_names())
def test_merge_of_a_set_into_itself_changes_nothing(name: str) -> None:
    ids = label_set(name).ids
    assert merge(name, name).apply(ids).tolist() == ids.tolist()
    assert merge(name, name).channels.tolist() == list(range(len(ids)))


def test_generation_to_head_by_hand() -> None:
    # lesion to white matter, choroid plexus to its ventricle, 5th ventricle to CSF, chiasm to optic nerve
    assert become("generation", "head", 25, 57, 136, 137, 163, 164) == [2, 41, 4, 5, 43, 44]
    assert become("generation", "head", 72, 85, 508, 509, 520) == [24, 530, 507, 507, 520]


def test_head_to_siam_by_hand() -> None:
    # cortex, brain-stem, artery, skin, cerebellum cortex, ventricles, CSF, dura, bones
    assert become("head", "siam", 3, 42, 16, 502, 511) == [1, 1, 2, 14, 16]
    assert become("head", "siam", 8, 47, 4, 14, 15, 24, 520, 515, 516) == [5, 5, 4, 4, 4, 3, 13, 15, 15]
    assert [name_of("siam", value) for value in (1, 2, 14, 16)] == ["grey matter", "white matter", "vessels", "head"]


def test_head_to_tissue_by_hand() -> None:
    assert become("head", "tissue", 2, 41, 24, 4, 515, 511, 506) == [2, 2, 3, 3, 4, 5, 5]
    assert become("head", "tissue", 520, 502, 3, 12, 16, 7, 8) == [6, 6, 8, 9, 10, 11, 11]


def test_head_to_brain_and_freesurfer_by_hand() -> None:
    assert become("head", "brain", 2, 42, 4, 16, 47, 24) == [1, 1, 1, 1, 1, 2]
    assert become("head", "brain", 0, 502, 511, 512, 515, 520, 530) == [0] * 7
    assert become("head", "freesurfer", 2, 24, 60, 502, 511, 30, 62) == [2, 24, 60, 0, 0, 0, 0]


def test_neuromorphometrics_by_hand() -> None:
    # 3rd ventricle, right and left accumbens, right thalamus, left hippocampus, vermal lobules
    assert become("neuromorphometrics", "evaluation", 4, 23, 30, 59, 48, 71, 72, 73) == [
        14,
        58,
        26,
        49,
        17,
        630,
        630,
        630,
    ]
    # cortex of the right side has even numbers, that of the left odd ones
    assert become("neuromorphometrics", "evaluation", 100, 101, 206, 207) == [42, 3, 42, 3]


def test_group_indices_leave_out_labels_without_a_group() -> None:
    labels = label_set("head")
    groups = labels.group_indices("topology")
    assert [labels.ids[i] for i in groups["left cerebrum"]] == [2, 3, 4, 5]
    grouped = {int(labels.ids[i]) for members in groups.values() for i in members}
    assert grouped.isdisjoint({0, 24, 502, 511, 515})


def test_unknown_names_and_values_are_named() -> None:
    with pytest.raises(LabelError, match="no label set 'nothing'; choose one of border"):
        label_set("nothing")
    with pytest.raises(LabelError, match="no label set 'head_to_brain'"):
        label_set("head_to_brain")
    with pytest.raises(LabelError, match="no merge from 'siam' to 'head'; shipped are"):
        merge("siam", "head")
    with pytest.raises(LabelError, match=r"value 999 \(2 voxels\).*set brain"):
        merge("head", "brain").apply(np.array([2, 999, 999]))
    with pytest.raises(LabelError, match=r"value -1 \(1 voxels\)"):
        merge("head", "brain").apply(np.array([-1, 0]))
    assert label_set("head").index_of_ids(np.array([-1, 1, 999])).tolist() == [-1, -1, -1]


def test_sets_that_make_no_sense_are_rejected() -> None:
    left, right = label(3, "left ear", "left"), label(4, "right ear", "right")
    assert small(left, right).mirror.tolist() == [0, 2, 1]
    wrong = {
        "unique ascending": (label(5, "nose"), label(2, "chin")),
        "wanted unique": (label(5, "nose"), label(5, "chin")),
        "name twice": (label(5, "nose"), label(6, "nose")),
        "has no right partner": (left,),
        "has no left partner": (right,),
        "'left ear' but has side ''": (label(3, "left ear"), right),
        "'nose' but has side 'left'": (label(3, "nose", "left"),),
        "has side 'right'": (label(3, "left ear", "right"), right),
    }
    for message, labels in wrong.items():
        with pytest.raises(LabelError, match=message):
            small(*labels)
    with pytest.raises(LabelError, match="start with 0"):
        LabelSet("small", (label(1, "nose"),))
    with pytest.raises(LabelError, match="wanted unique"):
        LabelSet("small", ())
