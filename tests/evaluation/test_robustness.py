import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from jsonargparse import ArgumentParser
from PIL import Image
from torch import Tensor, nn

from mmfound.data import ClassFolders, Digits, ImageTextData, Resize, Transformed, TrimBorder
from mmfound.errors import ConfigError, DataError
from mmfound.evaluation import (
    CommonCorruptions,
    EffectiveRobustness,
    Evaluator,
    Numbered,
    ObjectNetClasses,
    ReferenceModel,
    Robustness,
    Shift,
)
from mmfound.evaluation.earlier import read_results, record
from tests.evaluation.fakes import COLOURS, RGB, ColourModel, WordTokenizer
from tests.ranks import run_on_ranks

RED, GREEN, BLUE, CYAN, MAGENTA, YELLOW = range(6)
WNIDS = [f"n{number:08d}" for number in range(6)]


class ColourClassifier(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))

    def classify(self, image: Tensor) -> Tensor:
        return -torch.cdist(image.mean(dim=(2, 3)), RGB) * self.scale


def folders(root: Path, pictures: dict[str, Sequence[int]], *, border: int = 0) -> str:
    """Pictures of one colour each in folders of classes, within a red border."""
    for name, colours in pictures.items():
        (root / name).mkdir(parents=True)
        for number, colour in enumerate(colours):
            pixels = np.zeros((8, 8, 3), np.uint8)
            pixels[..., 0] = 255
            inside = slice(border, 8 - border)
            pixels[inside, inside] = (RGB[colour] * 255).numpy().astype(np.uint8)
            Image.fromarray(pixels).save(root / name / f"{number}.png")
    return str(root)


def reference(root: Path) -> ClassFolders:
    """Two pictures of each class, and a red one among the green and among the cyan ones."""
    pictures = {wnid: [colour, colour] for colour, wnid in enumerate(WNIDS)}
    pictures[WNIDS[GREEN]].append(RED)
    pictures[WNIDS[CYAN]].append(RED)
    return ClassFolders(folders(root / "val", pictures))


def rendition(root: Path) -> Shift:
    """Three of the classes; a yellow picture is called green, and is as far from green as from red."""
    pictures = {WNIDS[RED]: [RED], WNIDS[GREEN]: [GREEN, YELLOW], WNIDS[BLUE]: [BLUE]}
    return Shift("r", ClassFolders(folders(root / "imagenet-r", pictures)))


def matched(root: Path) -> Shift:
    """Numbered folders; one of six is wrong."""
    pictures = {str(colour): [RED if colour == CYAN else colour] for colour in range(6)}
    return Shift("v2", ClassFolders(folders(root / "v2", pictures)), class_map=Numbered())


def objects(root: Path) -> Shift:
    """ObjectNet: warm joins red, magenta and yellow, cold is blue; one folder has no class of the reference."""
    mappings = root / "mappings"
    mappings.mkdir()
    (mappings / "imagenet_to_label_2012_v2").write_text("\n".join(COLOURS) + "\n")
    files = {
        "pytorch_to_imagenet_2012_id": {str(number): number for number in range(6)},
        "objectnet_to_imagenet_1k": {"Warm thing": "red; magenta; yellow", "Cold thing": "blue"},
        "folder_to_objectnet_label": {"warm": "Warm thing", "cold": "Cold thing", "odd": "Odd thing"},
    }
    for name, content in files.items():
        (mappings / f"{name}.json").write_text(json.dumps(content))
    pictures = {"warm": [YELLOW, MAGENTA, BLUE], "cold": [BLUE], "odd": [CYAN]}
    source = Transformed(ClassFolders(folders(root / "images", pictures, border=2)), TrimBorder(2))
    return Shift("objectnet", source, class_map=ObjectNetClasses(str(mappings)))


def data(batch_size: int = 3, eval_image: nn.Module | None = None) -> Any:
    """The real DataModule; nothing is trained."""
    options: Any = {"tokenizer": WordTokenizer(), "eval_image": eval_image or Resize(4), "workers": 0, "seed": 0}
    return ImageTextData(Digits("test"), 2 * batch_size, micro_batch_size=batch_size, **options)


def evaluator(root: Path, **options: Any) -> Robustness:
    source = reference(root)
    shifts = [rendition(root), matched(root), objects(root)]
    return Robustness(source, shifts=shifts, class_names=COLOURS, templates="a {}", **options)


@torch.no_grad()
def evaluate(robustness: Robustness, model: nn.Module | None = None) -> dict[str, float]:
    return robustness.evaluate(model or ColourModel(), data())


def check_all_layouts(found: dict[str, float]) -> None:
    assert found["clean_top1"] == pytest.approx(12 / 14)
    assert found["clean_mean_per_class"] == pytest.approx((4 + 2 * 2 / 3) / 6)
    assert found["r_top1"] == pytest.approx(3.5 / 4)  # yellow cannot be named; half of the guesses are green
    assert found["r_mean_per_class"] == pytest.approx((1 + 0.75 + 1) / 3)
    assert found["r_clean_top1"] == pytest.approx(6 / 7)
    assert found["r_drop"] == pytest.approx(6 / 7 - 3.5 / 4)
    assert found["v2_top1"] == pytest.approx(5 / 6)
    assert found["v2_clean_top1"] == pytest.approx(12 / 14)
    assert found["objectnet_top1"] == pytest.approx(3 / 4)
    assert found["objectnet_mean_per_class"] == pytest.approx((2 / 3 + 1) / 2)
    assert found["objectnet_clean_top1"] == 1
    assert found["mean_top1"] == pytest.approx((3.5 / 4 + 5 / 6 + 3 / 4) / 3)
    assert found["mean_drop"] == pytest.approx(found["mean_clean_top1"] - found["mean_top1"])


def test_every_layout_is_scored_among_its_classes_and_beside_the_clean_pictures_of_these(tmp_path: Path):
    robustness = evaluator(tmp_path)
    check_all_layouts(evaluate(robustness))
    assert list(robustness.sources()) == ["source", "shifts.r", "shifts.v2", "shifts.objectnet"]
    (table,) = robustness.tables
    assert table.columns == ["", "r", "v2", "objectnet", "mean"]
    rows = {str(row[0]): list(row[1:]) for row in table.rows}
    assert list(rows) == ["accuracy", "mean per class", "clean, same classes", "drop", "chance", "samples"]
    assert rows["accuracy"] == pytest.approx([3.5 / 4, 5 / 6, 3 / 4, (3.5 / 4 + 5 / 6 + 3 / 4) / 3])
    assert rows["chance"][:3] == pytest.approx([1 / 3, 1 / 6, (3 + 1) / 2 / 4])
    assert rows["samples"] == [4, 6, 4, None]


def test_a_classifier_is_scored_by_its_logits(tmp_path: Path):
    check_all_layouts(evaluate(evaluator(tmp_path), ColourClassifier()))


def test_the_reference_is_embedded_once(tmp_path: Path):
    model = ColourModel()
    evaluate(evaluator(tmp_path), model)
    assert model.image_passes == 5 + 2 + 2 + 2  # 14, 4, 6 and 5 pictures in batches of three


def ranked(root: str) -> tuple[dict[str, float], list[list[Any]], int]:
    shifts = [
        Shift("r", ClassFolders(f"{root}/imagenet-r")),
        Shift("v2", ClassFolders(f"{root}/v2"), class_map=Numbered()),
    ]
    robustness = Robustness(
        ClassFolders(f"{root}/val"),
        shifts=shifts,
        corruptions=CommonCorruptions(["gaussian_noise", "fog"], [4, 5]),
        class_names=COLOURS,
        templates="a {}",
        append_to=f"{root}/results.csv",
    )
    model = ColourModel()
    with torch.no_grad():
        found = robustness.evaluate(model, data(batch_size=2))
    return found, [list(map(list, table.rows)) for table in robustness.tables], model.image_passes


def test_two_ranks_count_what_one_counts_in_equally_many_passes(tmp_path: Path):
    evaluator(tmp_path)
    found, tables, _ = ranked(str(tmp_path))
    assert 0.2 < found["corruptions_top1"] < 1
    ranks = run_on_ranks(2, ranked, str(tmp_path))
    assert ranks[0][2] == ranks[1][2]
    for theirs, rows, _ in ranks:
        assert theirs == pytest.approx(found, abs=1e-12)
        for table, expected in zip(rows, tables, strict=True):
            assert [row[0] for row in table] == [row[0] for row in expected]
            for row, values in zip(table, expected, strict=True):
                assert [value for value in row[1:] if value is not None] == pytest.approx(
                    [value for value in values[1:] if value is not None], abs=1e-12
                )
    assert len(read_results(f"{tmp_path}/results.csv")) == 1


def test_corruptions_have_a_column_and_a_table_of_their_own(tmp_path: Path):
    kinds = ["gaussian_noise", "brightness", "fog"]
    source = reference(tmp_path)
    robustness = Robustness(source, corruptions=CommonCorruptions(kinds, [1, 5]), class_names=COLOURS, templates="a {}")
    found = evaluate(robustness)
    shifts, corruptions = robustness.tables
    assert shifts.columns == ["", "corruptions", "mean"]
    assert corruptions.columns == ["corruption", "severity 1", "severity 5", "mean"]
    assert [row[0] for row in corruptions.rows] == [*kinds, "mean"]
    cells = np.array([row[1:3] for row in corruptions.rows[:-1]], float)
    assert found["corruptions_top1"] == pytest.approx(cells.mean())
    assert corruptions.rows[-1][3] == pytest.approx(cells.mean())
    assert [found[f"{kind}_top1"] for kind in kinds] == pytest.approx(cells.mean(axis=1))
    assert cells[1].tolist() == pytest.approx([12 / 14] * 2)  # pure colours are as bright as can be
    assert found["corruptions_drop"] == pytest.approx(12 / 14 - cells.mean())


def test_hits_are_counted_under_their_corruption_and_severity(tmp_path: Path):
    corruptions = CommonCorruptions(["fog", "snow"], [2, 3, 4])
    source = corruptions.source(reference(tmp_path), data())
    index = torch.arange(len(source)).flip(0)
    hit = torch.tensor([source.variants[number % 6] == ("snow", 3) for number in index.tolist()]).double()
    table, means = corruptions.table(source, hit, index)
    assert [list(row[1:4]) for row in table.rows] == [[0, 0, 0], [0, 1, 0], [0, 0.5, 0]]
    assert means == {"fog": 0, "snow": pytest.approx(1 / 3)}


def test_effective_robustness_and_the_difference_to_a_reference_come_from_a_csv(tmp_path: Path):
    path = str(tmp_path / "models.csv")
    for number, clean in enumerate((0.5, 0.6, 0.7, 0.8, 0.9)):
        record(path, f"m{number}", {"clean": clean, "r": clean, "v2": clean, "objectnet": clean})
    robustness = evaluator(
        tmp_path, effective=EffectiveRobustness(path), reference_model=ReferenceModel(path, "m2"), append_to=path
    )
    found = evaluate(robustness)
    assert found["r_effective"] == pytest.approx(-found["r_drop"])  # all models lie on the diagonal
    assert found["r_over_reference"] == pytest.approx(3.5 / 4 - 0.7)
    labels = [row[0] for row in robustness.tables[0].rows]
    assert labels[4:6] == ["effective robustness", "difference to reference"]
    row = read_results(path)[-1]
    assert (row["model"], float(row["clean"]), float(row["r"])) == (
        "this model",
        pytest.approx(12 / 14, abs=1e-6),
        0.875,
    )
    assert float(row["clean_r"]) == pytest.approx(6 / 7, abs=1e-6)


def test_a_shift_without_enough_models_is_refused_before_the_first_step(tmp_path: Path):
    path = str(tmp_path / "models.csv")
    for number, clean in enumerate((0.5, 0.6, 0.7, 0.8, 0.9)):
        record(path, f"m{number}", {"clean": clean, "r": clean, "objectnet": clean})
    with pytest.raises(ConfigError, match="0 models with both a clean accuracy and 'v2'"):
        evaluator(tmp_path, effective=EffectiveRobustness(path)).check(ColourModel(), data())


def test_unmapped_classes_are_named_before_the_first_step(tmp_path: Path):
    source = ClassFolders(folders(tmp_path / "s", {WNIDS[0]: [0], "n99999999": [1], "n88888888": [2]}))
    robustness = Robustness(reference(tmp_path), shifts=[Shift("sketch", source)], class_names=COLOURS)
    with pytest.raises(DataError, match=r"shift 'sketch': ClassFolders has 2 classes .*: 'n88888888', 'n99999999'"):
        robustness.check(ColourModel(), data())


def test_max_samples_spreads_over_every_source(tmp_path: Path):
    robustness = evaluator(tmp_path, max_samples=3)
    evaluate(robustness)
    assert robustness.tables[0].rows[-1][1:3] == [3, 3]


def test_class_names_must_be_as_many_as_the_classes(tmp_path: Path):
    robustness = Robustness(reference(tmp_path), shifts=[rendition(tmp_path)], class_names=COLOURS[:4])
    with pytest.raises(DataError, match="has 6 classes, and there are 4 class_names"):
        robustness.check(ColourModel(), data())


def test_a_classifier_of_another_number_of_classes_is_refused(tmp_path: Path):
    source = ClassFolders(folders(tmp_path / "two", {"a": [0], "b": [1]}))
    with pytest.raises(DataError, match="the model scores 6 classes, but its source has 2"):
        evaluate(Robustness(source, shifts=[Shift("s", source)]), ColourClassifier())


def test_a_model_that_can_do_neither_is_refused(tmp_path: Path):
    with pytest.raises(ConfigError, match="needs a model with embed_image and embed_text"):
        evaluator(tmp_path).check(nn.Linear(1, 1), data())


@pytest.mark.parametrize(
    "names", [["r", "r"], ["clean"], ["model"], ["clean_r"], ["corruptions"], ["corruptions", "fog"], []]
)
def test_names_that_clash_and_no_shifts_at_all_are_refused(tmp_path: Path, names: list[str]):
    source = reference(tmp_path)
    corruptions = CommonCorruptions() if "corruptions" in names else None
    with pytest.raises(ConfigError, match="two columns called|no shifts and no corruptions"):
        Robustness(
            source,
            shifts=[Shift(name, source) for name in names if name != "corruptions" or len(names) == 1],
            corruptions=corruptions,
        )


def test_an_evaluation_transform_that_changes_its_own_results_is_refused_for_corruptions(tmp_path: Path):
    robustness = Robustness(reference(tmp_path), corruptions=CommonCorruptions(["fog"]), class_names=COLOURS)
    with torch.no_grad(), pytest.raises(ConfigError, match="must leave its own results as they are"):
        robustness.check(ColourModel(), data(eval_image=TrimBorder(1)))


@pytest.mark.parametrize(("recipe", "samples"), [("digits", 352), ("fashion_mnist", 600), ("grocery", 500)])
def test_recipes_build(recipe: str, samples: int, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest):
    if recipe != "digits":
        request.getfixturevalue("shared_data")
    root = Path(__file__).resolve().parents[2]
    monkeypatch.chdir(root)
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--evaluators", type=list[Evaluator])
    config = yaml.safe_load((root / "recipes" / "eval" / f"{recipe}_corruptions.yaml").read_text())
    (robustness,) = parser.instantiate(parser.parse_object(config)).evaluators
    assert len(robustness.source) == samples
    robustness.check(ColourModel(), data())
    assert len(robustness.corruptions.source(robustness.source, data())) == 75 * samples


@pytest.mark.parametrize(("kinds", "severities"), [(["nois"], [1]), (["fog", "fog"], [1]), (["fog"], [6]), ([], [1])])
def test_corruptions_that_there_are_not_are_refused_at_once(kinds: list[str], severities: list[int]):
    with pytest.raises(ConfigError, match="must be some of"):
        CommonCorruptions(kinds, severities)


def test_results_that_cannot_be_kept_are_refused_before_the_first_picture(tmp_path: Path):
    other = tmp_path / "other.csv"
    other.write_text("a,b\n1,2\n")
    for path, message in ((other, "has no column"), (other / "results.csv", "cannot be written")):
        with pytest.raises(ConfigError, match=message):
            Robustness(
                reference(tmp_path / message), shifts=[rendition(tmp_path / message)], append_to=str(path)
            ).check(ColourClassifier(), data())


def test_labels_beyond_the_class_names_are_refused():
    source = Digits("test")
    source.classes = []
    with torch.no_grad(), pytest.raises(DataError, match="there is a label 9, but only 6 class names"):
        Robustness(source, corruptions=CommonCorruptions(["fog"]), class_names=COLOURS, templates="a {}").evaluate(
            ColourModel(), data(batch_size=64)
        )


def test_a_picture_that_cannot_be_read_counts_once_for_all_its_versions(tmp_path: Path):
    source = reference(tmp_path)
    (tmp_path / "val" / WNIDS[RED] / "0.png").write_bytes(b"no picture")
    loader = data()
    loader.max_bad_fraction = 1 / 14
    robustness = Robustness(source, corruptions=CommonCorruptions(severities=[1]), class_names=COLOURS)
    with torch.no_grad(), pytest.warns(UserWarning, match="left out"):
        robustness.evaluate(ColourClassifier(), loader)
    assert robustness.tables[0].rows[-1][1] == 13 * 15
