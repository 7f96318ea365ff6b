from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from mmfound.batch import RawSample
from mmfound.callbacks.evaluations import Evaluations
from mmfound.data import Shapes
from mmfound.data.source import Source
from mmfound.errors import ConfigError
from mmfound.evaluation import SampleDistances
from tests.evaluation.drawing import data

TRAIN, TEST = (Shapes(160, 16, split=split, objects=(1, 1), styles=("plain",)) for split in ("train", "test"))


class Averages(nn.Module):
    """The means of sixteenths of a picture as its features."""

    def features(self, image: Tensor) -> Tensor:
        return F.adaptive_avg_pool2d(image, 4).flatten(1)


class Draws(nn.Module):
    """Draws other samples of the same kind, training pictures, or what an untrained model does."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))
        self.kind = kind

    def sample_images(self, batch: Mapping[str, Any], indices: Sequence[int], seed: int) -> Tensor:
        if self.kind == "noise":
            return torch.stack([torch.randn(3, 16, 16, generator=seeded(index)) / 2 + 0.5 for index in indices])
        other = Shapes(160, 16, split="val", objects=(1, 1)) if self.kind == "new" else TRAIN
        pictures = [torch.from_numpy(other[index]["image"]).permute(2, 0, 1) / 255 for index in indices]
        return torch.stack(pictures)


def seeded(index: int) -> torch.Generator:
    return torch.Generator().manual_seed(100 + index)


def distances(kind: str, **settings: Any) -> tuple[dict[str, float], SampleDistances]:
    score = SampleDistances(TEST, TRAIN, Averages(), samples=160, **{"shown": 0, **settings})
    with torch.no_grad():
        return score.evaluate(Draws(kind), data(TEST)), score


def test_new_pictures_close_the_gap_and_are_no_copies():
    found, score = distances("new")
    assert found["kid_gap_closed"] == pytest.approx(1, abs=0.02)
    assert found["nearest_pixels_ratio"] == pytest.approx(1, abs=0.15)
    assert found["copies_pixels"] <= 0.05
    columns, last = score.tables[1].columns, score.tables[1].rows[-1]
    assert columns == ["quantile", "drawn_pixels", "held_out_pixels", "drawn_features", "held_out_features"]
    assert last[0] == 1.0
    assert score.tables[0].rows[0][0] == "kid (Averages)"


def test_copies_show():
    found, _ = distances("copies")
    for kind in ("pixels", "features"):
        assert found[f"copies_{kind}"] == 1
        assert found[f"nearest_{kind}_ratio"] == pytest.approx(0, abs=1e-6)


def test_copies_show_where_held_out_pictures_are_copies_themselves():
    score = SampleDistances(TRAIN, TRAIN, Averages(), samples=160, shown=0)
    with torch.no_grad():
        found = score.evaluate(Draws("copies"), data(TRAIN))
    assert found["copies_pixels"] == found["copies_features"] == 1


def test_an_untrained_model_is_at_the_ceiling_and_a_given_ceiling_is_used():
    found, _ = distances("noise")
    assert found["kid_gap_closed"] == pytest.approx(0, abs=0.02)
    given, _ = distances("noise", ceiling=2 * found["kid"] - found["kid_floor"])
    assert given["kid_gap_closed"] == pytest.approx(0.5)


class OneDamaged(Source):
    """The training pictures, but for the first, which cannot be read."""

    def __len__(self) -> int:
        return len(TRAIN)

    def __getitem__(self, index: int) -> RawSample:
        return {**TRAIN[index], "image": b"damaged"} if index == 0 else TRAIN[index]

    def fingerprint(self) -> str:
        return "OneDamaged"


def test_the_sheet_shows_the_nearest_pictures_where_one_before_them_cannot_be_read():
    score = SampleDistances(TEST, OneDamaged(), Averages(), samples=20, shown=5)
    with torch.no_grad(), pytest.warns(UserWarning, match="left out"):
        score.evaluate(Draws("copies"), data(TEST))
    sheet = score.sheets["nearest"]
    first = [sheet.crop((4 + 65 * place, 4, 68 + 65 * place, 68)) for place in range(3)]
    assert first[0].tobytes() == first[1].tobytes() == first[2].tobytes()


def test_the_sheet_is_kept_with_the_run_and_shows_what_lies_nearest(tmp_path: Path):
    score = SampleDistances(TEST, TRAIN, Averages(), samples=20, shown=5, name="real")
    trainer: Any = SimpleNamespace(
        strategy=SimpleNamespace(root_device=torch.device("cpu")),
        precision_plugin=SimpleNamespace(forward_context=nullcontext),
        datamodule=data(TEST),
        global_step=7,
        is_global_zero=True,
        default_root_dir=str(tmp_path),
        loggers=[],
    )
    found = Evaluations([score]).evaluate(trainer, Draws("copies"), "val")  # pyright: ignore[reportArgumentType]
    assert found["val/real_copies_pixels"] == 1
    with Image.open(tmp_path / "samples" / "val_real_nearest_step_7.png") as shown:
        first = [shown.crop((4 + 65 * place, 4, 68 + 65 * place, 68)) for place in range(3)]
    assert first[0].tobytes() == first[1].tobytes() == first[2].tobytes()
    assert len(first[0].getcolors() or []) > 1


def test_what_cannot_be_measured_is_refused():
    with pytest.raises(ConfigError, match="Linear has no features"):
        SampleDistances(TEST, TRAIN, nn.Linear(1, 1)).check(Draws("new"), None)
    with pytest.raises(ConfigError, match="too few"):
        SampleDistances(TEST, TRAIN, Averages(), samples=3)
