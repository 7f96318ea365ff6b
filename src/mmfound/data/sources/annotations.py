"""Annotation files of published data sets: COCO captions, VQAv2, and CoOp's few-shot splits."""

import json
import random
from collections import defaultdict
from pathlib import Path
from typing import Any, Literal

import numpy as np

from mmfound.batch import RawSample
from mmfound.data.packed import PackedStrings
from mmfound.data.sources.files import ImageFiles
from mmfound.errors import ConfigError, DataError


class CocoCaptions(ImageFiles):
    """Pictures with about five captions each, from COCO's `captions_*.json`.

    Args:
        annotations: the JSON file.
        images: folder of the pictures.

    Raises:
        DataError: when the file is not of that form, or no picture is there.
    """

    def __init__(self, annotations: str, images: str) -> None:
        content = _read(annotations, "images", "annotations")
        texts: dict[int, list[str]] = defaultdict(list)
        for annotation in content["annotations"]:
            texts[annotation["image_id"]].append(annotation["caption"].strip())
        shown = [image for image in content["images"] if texts[image["id"]]]
        paths = [image["file_name"] for image in shown]
        captions = [texts[image["id"]] for image in shown]
        super().__init__(Path(images), paths, captions=captions, what=f"CocoCaptions: {annotations}")


class Vqa2(ImageFiles):
    """One sample per question about a picture; `meta` holds the question and its ten answers.

    The caption is the question.

    Args:
        questions: VQAv2's questions JSON.
        annotations: its annotations JSON.
        images: folder of the pictures.
        file_name: picture of an id, such as `COCO_val2014_{:012d}.jpg`.

    Raises:
        DataError: when a file is not of that form, or no picture is there.
    """

    def __init__(self, questions: str, annotations: str, images: str, *, file_name: str) -> None:
        asked = _read(questions, "questions")["questions"]
        answered = {a["question_id"]: a for a in _read(annotations, "annotations")["annotations"]}
        self._ids = np.array([question["question_id"] for question in asked], np.int64)
        missing = next((number for number in self._ids.tolist() if number not in answered), None)
        if missing is not None:
            raise DataError(f"Vqa2: question {missing} of {questions} has no answers in {annotations}.")
        ids = self._ids.tolist()
        self._answers = PackedStrings("\0".join(a["answer"] for a in answered[number]["answers"]) for number in ids)
        paths = [file_name.format(question["image_id"]) for question in asked]
        captions = [[question["question"]] for question in asked]
        super().__init__(Path(images), paths, captions=captions, what=f"Vqa2: {questions}")

    def __getitem__(self, index: int) -> RawSample:
        """The raw sample at `index`; its key is the question's id."""
        sample = super().__getitem__(index)
        question = (sample.get("captions") or [""])[0]
        number = int(self._ids[index])
        meta = {"question": question, "answers": self._answers[index].split("\0"), "question_id": number}
        return {**sample, "key": str(number), "meta": meta}


class FewShotSplit(ImageFiles):
    """CoOp's `split_zhou_*.json`: [path, label, class name] by split, and a fixed number of them per class.

    Args:
        split_file: the JSON file.
        images: folder of the pictures.
        split: which part.
        shots: pictures per class, drawn by `seed`; all by default. Classes with fewer repeat none and give all; the val
            split has at most 4 of each, the test split is always whole.
        seed: which draw; that of CoOp's code where a split file is there.
        template: a caption with `{}` for the class name.

    Raises:
        DataError: when the file is not of that form, or no picture is there.

    Source: Zhou et al. 2022, arXiv:2109.01134, section 4.1.
    """

    def __init__(
        self,
        split_file: str,
        images: str,
        *,
        split: Literal["train", "val", "test"] = "train",
        shots: int | None = None,
        seed: int = 1,
        template: str = "a photo of a {}.",
    ) -> None:
        if shots is not None and shots < 1:
            raise ConfigError(f"FewShotSplit: shots is {shots}; it must be at least 1, or null for all.")
        every = _read(split_file, "train", "val", "test")
        names = {label: name for part in every.values() for _, label, name in part}
        rows = _few(every, split, shots, seed)
        classes = [names[label] for label in sorted(names)]
        super().__init__(
            Path(images),
            [path for path, _, _ in rows],
            captions=[[template.format(name.replace("_", " "))] for _, _, name in rows],
            labels=[label for _, label, _ in rows],
            classes=classes,
            what=f"FewShotSplit: {split_file}",
        )


def _few(every: dict[str, list[Any]], split: str, shots: int | None, seed: int) -> list[Any]:
    """Some rows per class; val is drawn after train from one generator, whose state decides what it gets."""
    if shots is None or split == "test":
        return every[split]
    draw = random.Random(seed)
    train = _drawn(every["train"], shots, draw)
    return train if split == "train" else _drawn(every["val"], min(shots, 4), draw)


def _drawn(rows: list[Any], shots: int, draw: random.Random) -> list[Any]:
    by_label: dict[int, list[Any]] = defaultdict(list)
    for row in rows:
        by_label[row[1]].append(row)
    groups = by_label.values()
    return [row for group in groups for row in (draw.sample(group, shots) if len(group) >= shots else group)]


def _read(path: str, *keys: str) -> dict[str, Any]:
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}. Check the path.") from error
    except ValueError as error:
        raise DataError(f"{path} is not JSON: {error}.") from error
    missing = [key for key in keys if not isinstance(content, dict) or key not in content]
    if missing:
        raise DataError(f"{path} has no {missing[0]!r}; expected an object with {', '.join(map(repr, keys))}.")
    return content
