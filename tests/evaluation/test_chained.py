from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mmfound.building import build
from mmfound.data import ImageTextData, Resize, Shapes
from mmfound.diffusion.pipeline import Link, Pipeline
from mmfound.errors import ConfigError
from mmfound.evaluation import AttributeScore, Chained, Evaluator, InpaintScore, Upscaling
from mmfound.evaluation.embedding import device_of
from mmfound.evaluation.table import Table
from mmfound.generating.loading import load_pipeline
from mmfound.tasks import Diffusion
from mmfound.text import TrainedBpe
from mmfound.text.loading import load_tokenizer
from tests.generating.stages import randomise, smaller, stage, stage_export, text
from tests.tasks.denoisers import adam

SOURCE = Shapes(6, 16, split="val", objects=(1, 1), styles=("plain",))


class Records(Evaluator):
    """Draws one batch."""

    drawn: Tensor
    batch: dict[str, Any]

    def evaluate(self, model: Any, data: Any) -> dict[str, float]:
        [self.batch] = data.eval_batches(self.source, device_of(model))
        self.drawn = model.sample_images(self.batch, self.batch["index"].tolist(), 3)
        self.tables = [Table("drawn", ["pictures"], [[len(self.drawn)]])]
        return {"pictures": len(self.drawn)}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> str:
    return stage_export(tmp_path_factory.mktemp("chain") / "base", stage(8, text()))


def upsampler() -> Any:
    made = nn.Module()
    made.stage = randomise(build(stage(16, smaller(8, 16), text(0.0)), "test"), 1).eval()
    return made


def data(tokenizer: Any) -> Any:
    return ImageTextData(
        SOURCE, 6, tokenizer=tokenizer, train_image=Resize(16), eval_image=Resize(16), workers=0, seed=0
    )


@torch.no_grad()
def test_the_evaluator_gets_what_the_stages_draw_together(base: str):
    inner, model = Records(SOURCE, name="chain"), upsampler()
    chained = Chained(inner, [base])
    found = chained.evaluate(model, data(load_tokenizer(Path(base))))
    assert found == {"pictures": 6}
    assert chained.tables[0].rows == [[6]]
    assert (chained.name, chained.sources()) == ("chain", {"source": SOURCE})
    links = [*load_pipeline([base]).pipeline.links, Link("large", model.stage)]
    expected = Pipeline(links).draw(inner.batch, inner.batch["index"].tolist(), 3)
    assert inner.drawn.shape == (6, 3, 16, 16)
    torch.testing.assert_close(inner.drawn, expected, rtol=0, atol=0)
    model.stage.network.stem.weight.mul_(2)  # the model learns on; what was loaded stays
    chained.evaluate(model, data(load_tokenizer(Path(base))))
    assert not torch.allclose(inner.drawn, expected, atol=0.01)


@torch.no_grad()
def test_shapes_are_scored_behind_a_smaller_stage(base: str):
    chained = Chained(AttributeScore(SOURCE, samples=4, shuffled=2), [base])
    found = chained.evaluate(upsampler(), data(load_tokenizer(Path(base))))
    assert found["found_seen"] == 0  # weights are random
    assert {table.name for table in chained.tables} == {"score", "pictures"}


def test_what_does_not_go_together_is_refused_before_the_first_step(base: str, tmp_path: Path):
    tokens, inner = data(load_tokenizer(Path(base))), Records(SOURCE)
    other = TrainedBpe(280, 24)
    other.prepare(lambda: ["a green ring"], tmp_path / "other")
    with pytest.raises(ConfigError, match="reads other tokens than data.tokenizer makes.*tokenizer_of.*base"):
        Chained(inner, [base]).check(upsampler(), data(other))
    with pytest.raises(ConfigError, match="missing"):
        Chained(inner, [str(tmp_path / "missing")]).check(upsampler(), tokens)
    with pytest.raises(ConfigError, match="needs a task with a stage, but SimpleNamespace has none"):
        Chained(inner, [base]).check(SimpleNamespace(), tokens)  # pyright: ignore[reportArgumentType]
    with pytest.raises(ConfigError, match="takes no smaller picture"):
        Chained(inner, [base, base]).check(upsampler(), tokens)
    with pytest.raises(ConfigError, match="before is empty"):
        Chained(inner, [])


def test_pictures_that_a_model_needs_or_has_no_use_for_are_refused_before_it_draws(base: str):
    enlarges, source = Diffusion(upsampler().stage, adam()), data(load_tokenizer(Path(base)))
    draws = Diffusion(load_pipeline([base]).pipeline.links[0].stage, adam())
    score, psnr = AttributeScore(SOURCE, samples=2), Upscaling(SOURCE, 8, samples=2)
    score.check(draws, source)
    psnr.check(enlarges, source)
    Chained(score, [base]).check(enlarges, source)
    with pytest.raises(ConfigError, match=r"AttributeScore 'attribute' has models draw .* needs \['low_resolution'\]"):
        score.check(enlarges, source)
    with pytest.raises(ConfigError, match=r"Upscaling 'upscaling' has models enlarge pictures, .* takes none"):
        psnr.check(draws, source)
    with pytest.raises(ConfigError, match=r"Upscaling 'upscaling' has models enlarge pictures, .* takes none"):
        Chained(psnr, [base]).check(enlarges, source)
    with pytest.raises(ConfigError, match=r"Chained 'inpaint': InpaintScore hides parts of pictures of one size"):
        Chained(InpaintScore(SOURCE), [base])
