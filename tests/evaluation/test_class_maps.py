import json
import re
from pathlib import Path

import pytest
import torch

from mmfound.errors import ConfigError, DataError
from mmfound.evaluation import ClassMap, NamedClasses, Numbered, ObjectNetClasses, Shift
from mmfound.evaluation.shifts import LabelSpace
from tests.evaluation.fakes import Colours


def space_of(names: list[str], reference: list[str], class_map: ClassMap | None = None) -> list[list[int]]:
    source = Colours()
    source.classes = names
    space = Shift("s", source, class_map=class_map).space(reference)
    return [row.nonzero()[:, 0].tolist() for row in space.member_GC]


def test_folders_of_the_same_names_may_be_fewer():
    assert space_of(["n03", "n01"], ["n01", "n02", "n03"]) == [[2], [0]]


def test_numbered_folders_count_in_the_order_of_the_reference_not_of_the_alphabet():
    reference = [f"n{number:02d}" for number in range(12)]
    assert space_of(sorted(map(str, range(12))), reference, Numbered()) == [
        [0],
        [1],
        [10],
        [11],
        *([n] for n in range(2, 10)),
    ]


def test_a_table_may_join_classes_and_leave_some_out():
    table = NamedClasses({"dog": ["husky", "pug"], "cat": "tabby", "car": None})
    assert space_of(["car", "cat", "dog"], ["husky", "pug", "tabby"], table) == [[], [2], [0, 1]]


def test_a_table_may_be_a_file(tmp_path: Path):
    file = tmp_path / "map.json"
    file.write_text('{"cat": "tabby"}')
    assert space_of(["cat"], ["pug", "tabby"], NamedClasses(str(file))) == [[1]]


@pytest.mark.parametrize("class_map", [None, NamedClasses({"a": "a"}), Numbered()])
def test_all_unmapped_classes_are_named(class_map: ClassMap | None):
    names = ["0", "zebra", "yak"] if isinstance(class_map, Numbered) else ["a", "zebra", "yak"]
    with pytest.raises(DataError, match=r"shift 's': Colours has 2 classes that \w+ does not map .*: 'zebra', 'yak'\."):
        space_of(names, ["a", "b"], class_map)


def test_a_number_beyond_the_reference_is_unmapped():
    with pytest.raises(DataError, match="has 1 classes .*: '2'"):
        space_of(["0", "1", "2"], ["a", "b"], Numbered())


def test_a_table_that_names_no_class_of_the_reference_is_refused():
    with pytest.raises(
        ConfigError, match="'cat' stands for 'tiger', which is none of the reference's 1 classes, such as 'pug'"
    ):
        space_of(["cat"], ["pug"], NamedClasses({"cat": "tiger"}))


@pytest.mark.parametrize(("text", "message"), [("[1]", "holds a list"), ("{", "is no JSON")])
def test_files_that_are_no_tables_are_refused(tmp_path: Path, text: str, message: str):
    (tmp_path / "map.json").write_text(text)
    with pytest.raises(ConfigError, match=message):
        NamedClasses(str(tmp_path / "map.json"))


def test_a_shift_without_any_class_is_refused():
    with pytest.raises(DataError, match="no class that stands for one"):
        space_of(["car"], ["pug"], NamedClasses({"car": None}))


def object_net(folder: Path) -> Path:
    """ObjectNet's four files over five classes of ImageNet; the challenge numbers them in another order."""
    folder.mkdir()
    (folder / "imagenet_to_label_2012_v2").write_text("chair, seat\nplate rack\nplate\nmug, cup\nclock\n")
    order = {"0": 4, "1": 0, "2": 3, "3": 2, "4": 1}  # clock, chair, mug, plate, plate rack
    (folder / "pytorch_to_imagenet_2012_id.json").write_text(json.dumps(order))
    imagenet = {"Chair": "chair, seat", "Plate": "plate; plate rack", "Clock": "clock"}
    (folder / "objectnet_to_imagenet_1k.json").write_text(json.dumps(imagenet))
    labels = {"chair": "Chair", "plate": "Plate", "alarm_clock": "Clock", "air_freshener": "Air freshener"}
    (folder / "folder_to_objectnet_label.json").write_text(json.dumps(labels))
    return folder


def test_object_net_joins_and_leaves_out_as_its_own_files_say(tmp_path: Path):
    class_map = ObjectNetClasses(str(object_net(tmp_path / "mappings")))
    reference = ["n1", "n2", "n3", "n4", "n5"]
    names = ["air_freshener", "alarm_clock", "chair", "plate"]
    assert space_of(names, reference, class_map) == [[], [0], [1], [3, 4]]
    with pytest.raises(DataError, match="has 1 classes .*: 'unheard_of'"):
        space_of([*names, "unheard_of"], reference, class_map)
    with pytest.raises(
        ConfigError, match=re.escape("ObjectNet's 'plate' is class 4 of ImageNet, but the reference has 3")
    ):
        space_of(names, reference[:3], class_map)


def test_a_missing_file_of_object_net_is_named(tmp_path: Path):
    (object_net(tmp_path / "mappings") / "pytorch_to_imagenet_2012_id.json").unlink()
    with pytest.raises(ConfigError, match="pytorch_to_imagenet_2012_id.json cannot be read"):
        ObjectNetClasses(str(tmp_path / "mappings"))


def test_only_classes_that_take_part_compete_and_any_of_a_joined_class_is_right():
    space = LabelSpace(torch.tensor([[0, 1, 1, 0], [0, 0, 0, 1], [0, 0, 0, 0]]).bool())  # 4 classes, 3 of the shift
    score = torch.tensor([[9.0, 1, 3, 2], [9.0, 3, 1, 2], [9.0, 1, 1, 2], [9.0, 2, 2, 2]])
    counts, hit, number = space.hits(score, space.of_shift(torch.tensor([0, 1, 2, 0])))
    assert counts.tolist() == [True, True, False, True]
    assert hit.tolist() == pytest.approx([1, 0, 2 / 3])  # the last is a tie of three, two of which are right
    assert number.tolist() == [0, 1, 0]
    counts, hit, number = space.hits(score, space.of_reference(torch.tensor([1, 3, 0, 2])))
    assert counts.tolist() == [True, True, False, True]
    assert hit.tolist() == pytest.approx([1, 0, 2 / 3])
    assert space.chance == pytest.approx((2 / 3 + 1 / 3) / 2)


def test_what_a_class_stands_for_are_names(tmp_path: Path):
    file = tmp_path / "map.json"
    file.write_text('{"cat": 5}')
    with pytest.raises(ConfigError, match="'cat' stands for 5; give a name"):
        NamedClasses(str(file))
