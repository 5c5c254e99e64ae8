from __future__ import annotations

import numpy as np
import pytest

from phantomseg.errors import LabelError
from phantomseg.labels import Label, LabelSet, has_merge, label_set, label_set_names, merge
from phantomseg.labels.merge import merge_names

# fmt: off
SYNTHSEG = [
    0, 2, 3, 4, 5, 7, 8, 10, 11, 12, 13, 14, 15, 16, 17, 18, 24, 26, 28,
    41, 42, 43, 44, 46, 47, 49, 50, 51, 52, 53, 54, 58, 60,
]
# fmt: on
MERGES = [name.split(" to ") for name in merge_names()]
SIDED = ["evaluation", "freesurfer", "generation", "head", "manual"]
TOOLS = ["aseg", "brainchop", "gif", "gouhfi", "neuromorphometrics", "siam", "tissue"]
NOT_SPLIT = {  # values of a set that a merge leaves out, as they lie in two of its labels
    ("evaluation", "matter"): {654, 656},
    ("evaluation", "mask"): {656},
}


def name_of(labels: str, value: int) -> str:
    chosen = label_set(labels)
    return chosen.names[chosen.ids.tolist().index(value)]


def become(source: str, target: str, *values: int) -> list[int]:
    return merge(source, target).apply(np.array(values)).tolist()


def named(tool: str, *values: int) -> list[str]:
    return [name_of("evaluation", value) for value in become(tool, "evaluation", *values)]


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
    sideless = [602, 603, 604, 605, 607, 610, 611, 612, 613, 617, 618, 626, 628, 630]
    assert label_set("evaluation").ids.tolist() == [*SYNTHSEG, *sideless, *range(651, 657)]
    assert label_set("manual").ids.tolist() == [*SYNTHSEG, 602, 630]
    assert label_set("matter").names == ("background", "grey matter", "white matter", "ventricles")
    assert label_set("siam").ids.tolist() == list(range(17))
    assert label_set("brain").ids.tolist() == [0, 1, 2]
    assert label_set("tissue").ids.tolist() == [0, 2, 3, 4, 5, 6, 8, 9, 10, 11]
    assert len(label_set("head")) == 51
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
        missing = set(label_set(source).ids.tolist()) - set(found.source_ids)
        assert missing == NOT_SPLIT.get((source, target), set())
        # BIDS has grey matter and lesions, which the set of this name does not
        beyond = set(found.source_ids) - set(label_set(source).ids.tolist())
        assert beyond == ({1, 7} if source == "tissue" else set())
    assert list(found.source_ids) == sorted(set(found.source_ids))
    assert set(found.target_ids) <= set(label_set(target).ids.tolist())
    assert (found.channels >= 0).all()
    assert found.target_ids[0] == 0 == found.source_ids[0]


@pytest.mark.parametrize("source, target", [pair for pair in MERGES if pair[0] in SIDED])
def test_merge_keeps_sides(source: str, target: str) -> None:
    found, before, after = merge(source, target), label_set(source), label_set(target)
    place = before.index_of_ids(np.array(found.source_ids))
    channels = dict(zip(place.tolist(), found.channels.tolist(), strict=True))
    for index, channel in channels.items():
        assert {before.labels[index].side, after.labels[channel].side} != {"left", "right"}
        # merging and mirroring give the same in either order
        assert channels[before.mirror[index]] == after.mirror[channel]


def test_sets_that_come_from_the_head() -> None:
    reached = {target for source, target in MERGES if source == "head"}
    assert reached == {
        "brain",
        "freesurfer",
        "healthy",
        "intracranial",
        "lesions",
        "mask",
        "outer",
        "plexus",
        "refined",
        "siam",
        "tissue",
    }
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
    # lesions and choroid plexus have labels of their own; 5th ventricle to CSF, chiasm to optic nerve
    assert become("generation", "head", 25, 57, 136, 137, 163, 164) == [25, 57, 31, 137, 63, 164]
    # merged further, lesions are white matter, and choroid plexus is the ventricle around it
    assert become("head", "freesurfer", 25, 57, 31, 137, 63, 164) == [2, 41, 4, 5, 43, 44]
    assert become("head", "lesions", 2, 25, 57, 31, 137, 63, 164, 3) == [2, 77, 77, 31, 31, 63, 63, 0]
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


def test_sideless_labels_are_like_the_sided_ones() -> None:
    labels = {entry.id: entry for entry in label_set("evaluation").labels}
    for value in (602, 603, 604, 605, 607, 610, 611, 612, 613, 617, 618, 626, 628):
        sided, sideless = labels[value - 600], labels[value]
        assert (sideless.name, sideless.side, sideless.topology) == (sided.structure, "", "")
        assert (sideless.tissue, sideless.color) == (sided.tissue, sided.color)
    known = {entry.tissue for name in ("head", "siam", "tissue") for entry in label_set(name).labels}
    assert {entry.tissue for entry in labels.values()} <= known


@pytest.mark.parametrize("tool", TOOLS)
def test_tools_become_evaluation(tool: str) -> None:
    assert has_merge(tool, "evaluation")
    found = merge(tool, "evaluation")
    assert set(found.target_ids) <= set(label_set("evaluation").ids.tolist())
    assert found.apply(np.zeros((2, 2), np.uint8)).tolist() == [[0, 0], [0, 0]]
    with pytest.raises(LabelError, match="value 20000"):
        found.apply(np.array([0, 20000]))


def test_aseg_by_hand() -> None:
    assert named("aseg", 12, 51, 17, 53, 9, 48) == [
        "left putamen", "right putamen", "left hippocampus", "right hippocampus", "left thalamus", "right thalamus",
    ]  # fmt: skip
    # Desikan, Destrieux of 2005 and of 2009: cortex, then the white matter below it
    left, right = "left cerebral cortex", "right cerebral cortex"
    assert named("aseg", 1000, 1035, 1181, 1212, 11100, 11175) == [left] * 6
    assert named("aseg", 2000, 2035, 2181, 2212, 12100, 12175) == [right] * 6
    left, right = "left cerebral white matter", "right cerebral white matter"
    assert named("aseg", 3000, 3035, 3181, 3207, 5001, 13100, 13175, 78, 25) == [left] * 9
    assert named("aseg", 4000, 4035, 4181, 4207, 5002, 14100, 14175, 79, 57) == [right] * 9
    assert named("aseg", 192, 251, 255, 77) == ["cerebral white matter"] * 4
    # choroid plexus in its ventricle, 5th ventricle in CSF
    assert become("aseg", "evaluation", 31, 63, 72) == [4, 43, 24]
    assert become("aseg", "evaluation", 86, 87, 171) == [2, 41, 607]
    # 136, 137, 163 and 164 mean the choroid plexus in the set generation, and nuclei in tables of FreeSurfer's colours
    with pytest.raises(LabelError, match="value 163"):
        become("aseg", "evaluation", 163)
    # vessels, chiasm, undetermined, skull, head, epidermis
    assert become("aseg", "evaluation", 30, 62, 85, 29, 61, 165, 258, 118) == [0] * 8


def test_aseg_has_all_values_of_freesurfer_and_of_the_label_maps_it_is_made_of() -> None:
    freesurfer = label_set("freesurfer").ids
    assert merge("aseg", "evaluation").apply(freesurfer).tolist() == freesurfer.tolist()
    # generation has values of its own from 500 on; where both have one they agree
    own = {136, 137, 163, 164}
    shared = [value for value in label_set("generation").ids.tolist() if value < 500 and value not in own]
    assert become("aseg", "evaluation", *shared) == become("generation", "evaluation", *shared)


def test_siam_brainchop_and_gouhfi_by_hand() -> None:
    assert named("siam", 1, 2, 3, 4, 5) == [
        "cerebral cortex", "white matter and brain-stem", "cerebrospinal fluid", "ventricles", "cerebellum cortex",
    ]  # fmt: skip
    assert become("siam", "evaluation", 13, 14, 15, 16) == [0] * 4
    assert named("brainchop", 1, 5, 6, 11, 13, 17) == [
        "cerebral white matter", "cerebellum white matter", "cerebellum cortex", "3rd ventricle", "brain-stem",
        "ventral DC",
    ]  # fmt: skip
    assert merge("brainchop", "evaluation").source_ids == tuple(range(18))
    assert named("gouhfi", 9, 28, 14, 30, 19, 34, 16, 35) == [
        "left putamen", "right putamen", "left hippocampus", "right hippocampus", "left lateral ventricle",
        "right lateral ventricle", "cerebrospinal fluid", "cerebral white matter",
    ]  # fmt: skip
    assert merge("gouhfi", "evaluation").source_ids == tuple(range(36))


@pytest.mark.parametrize(
    "tool, values",
    [
        ("siam", (6, 7, 8, 9, 10, 11, 12)),
        ("brainchop", (7, 10, 9, 8, 16, 15, 14)),
        ("gouhfi", (7, 10, 9, 8, 17, 15, 14)),
    ],
)
def test_deep_nuclei_have_the_same_names_in_every_tool(tool: str, values: tuple[int, ...]) -> None:
    names = ["thalamus", "pallidum", "putamen", "caudate", "accumbens area", "amygdala", "hippocampus"]
    assert [name.removeprefix("left ") for name in named(tool, *values)] == names


def test_tissue_by_hand() -> None:
    # CSF of our set holds the ventricles, its white matter neither brain-stem nor cerebellum
    assert named("tissue", 2, 3, 8, 9, 10, 11) == [
        "cerebral white matter", "cerebrospinal fluid and ventricles", "cerebral cortex", "deep grey matter",
        "brain-stem", "cerebellum",
    ]  # fmt: skip
    assert become("tissue", "evaluation", 1, 7, 4, 5, 6) == [652, 602, 0, 0, 0]


def test_evaluation_to_matter_and_mask_by_hand() -> None:
    # cortex, pallidum, cerebellum cortex, deep grey matter; white matter, brain-stem, ventral DC; ventricles; CSF
    assert become("evaluation", "matter", 3, 42, 13, 613, 630, 653) == [1] * 6
    assert become("evaluation", "matter", 2, 607, 16, 60, 628, 651) == [2] * 6
    assert become("evaluation", "matter", 4, 44, 14, 15, 605, 655, 24) == [3, 3, 3, 3, 3, 3, 0]
    assert become("evaluation", "mask", 2, 654, 655, 16, 24, 0) == [1, 1, 1, 1, 0, 0]
    for target, value in (("matter", 654), ("matter", 656), ("mask", 656)):
        with pytest.raises(LabelError, match=f"value {value}"):
            become("evaluation", target, value)


@pytest.mark.parametrize("name", ["matter", "mask"])
def test_sides_and_sideless_become_the_same(name: str) -> None:
    found = dict(zip(merge("evaluation", name).source_ids, merge("evaluation", name).target_ids, strict=True))
    groups: dict[str, set[int]] = {}
    for entry in label_set("evaluation").labels:
        if entry.id in found:
            groups.setdefault(entry.structure, set()).add(found[entry.id])
    assert all(len(targets) == 1 for targets in groups.values())
    # both merges agree on what is brain
    if name == "matter":
        mask = dict(zip(merge("evaluation", "mask").source_ids, merge("evaluation", "mask").target_ids, strict=True))
        assert all((target > 0) == (mask[source] > 0) for source, target in found.items())


def test_group_indices_leave_out_labels_without_a_group() -> None:
    labels = label_set("head")
    groups = labels.group_indices("topology")
    assert [labels.ids[i] for i in groups["left cerebrum"]] == [2, 3, 4, 5, 25, 31, 137]
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
