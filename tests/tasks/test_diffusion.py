from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mmfound.abilities import SamplesImages
from mmfound.diffusion import (
    X0,
    CosineSchedule,
)
from mmfound.diffusion.conditioning import Condition, Conditioner
from mmfound.diffusion.objective import variational_losses
from mmfound.diffusion.spaces import PixelSpace
from mmfound.diffusion.stage import Stage
from mmfound.errors import ConfigError
from mmfound.models import UNet
from mmfound.models.unet_parts import Joint, ScaleShift
from mmfound.tasks import Diffusion
from tests.callbacks.fakes import IGNORED
from tests.tasks.denoisers import SIZE, adam, batch_of, task

pytestmark = IGNORED


@torch.no_grad()
def test_validation_draws_for_each_sample_the_same_in_every_batch():
    module = task().eval()
    whole = module._means(batch_of(12))
    parts = [module._means(batch_of(5)), module._means(batch_of(7, first=5))]
    for name in ("loss", "simple_loss", "loss_t0", "loss_t1", "loss_t2", "loss_t3"):
        counts = [part[name][1] for part in parts]
        assert sum(counts) == whole[name][1]
        mean = sum(float(part[name][0]) * part[name][1] for part in parts) / sum(counts)
        assert mean == pytest.approx(float(whole[name][0]), rel=1e-5), name
    torch.manual_seed(5)
    assert torch.equal(module._means(batch_of(12))["loss"][0], whole["loss"][0])


@torch.no_grad()
def test_losses_by_quarter_average_to_the_simple_one_which_is_a_part_of_the_loss():
    module = task().train()
    means = module._means(batch_of(40))
    loss, simple, bits = (float(means.pop(name)[0]) for name in ("loss", "simple_loss", "bits"))
    assert set(means) == {"loss_t0", "loss_t1", "loss_t2", "loss_t3"}
    assert [count for _, count in means.values()] == [10] * 4  # stratified over the batch
    assert sum(float(value) for value, _ in means.values()) / 4 == pytest.approx(simple, rel=1e-5)
    assert simple + 0.001 * bits == pytest.approx(loss, rel=1e-5)


class Says(Conditioner):
    """Puts the first token into the vector."""

    reads = ("tokens", "token_mask")

    def forward(self, batch: Any, dropped_B: Tensor) -> Condition:
        return Condition(vector=batch["tokens"][:, :1].float())


class Told(nn.Module):
    """Believes that the picture is as bright as the vector says, or does not listen."""

    def __init__(self, listens: bool) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))
        self.listens = listens

    def forward(self, x: Tensor, time: Tensor, condition: Condition) -> Tensor:
        assert condition.vector is not None
        return condition.vector[:, :, None, None].expand_as(x) * self.listens * self.weight


@torch.no_grad()
def test_the_gap_is_what_the_captions_of_others_cost():
    said = torch.tensor([[0], [1], [0], [1]])
    images = said[..., None, None].expand(4, 3, SIZE, SIZE) / 2 + 0.5  # 0 or 1 in the network's range
    batch = {"key": list("abcd"), "image": images, "tokens": said, "token_mask": said >= 0}
    for listens, gap in ((True, 1.0), (False, 0.0)):
        whole = Stage(Told(listens), CosineSchedule(), X0(), PixelSpace(SIZE), [Says()])
        means = Diffusion(whole, adam()).eval()._means(batch)
        assert float(means["conditioning_gap"][0]) == pytest.approx(gap)


@torch.no_grad()
def test_the_bound_is_not_computed_for_the_gap(monkeypatch: pytest.MonkeyPatch):
    calls: list[int] = []

    def counted(*args: Any, **options: Any) -> Tensor:
        calls.append(1)
        return variational_losses(*args, **options)

    monkeypatch.setattr("mmfound.tasks.diffusion.variational_losses", counted)
    means = task().eval()._means(batch_of(4))
    assert {"bits", "conditioning_gap"} <= means.keys()
    assert len(calls) == 1


def test_known_pixels_stay_what_they_are():
    batch = batch_of(2)
    text = {name: batch[name] for name in ("tokens", "token_mask")}
    mask = (torch.arange(SIZE) < 3).expand(2, 1, SIZE, SIZE)
    drawn = task().eval().sample_images({**text, "known_image": batch["image"], "mask": mask.float()}, [0, 1], seed=7)
    torch.testing.assert_close(drawn[..., :3], batch["image"][..., :3], rtol=0, atol=1e-6)
    assert not torch.allclose(drawn[..., 3:], batch["image"][..., 3:], atol=0.01)


def test_two_halves_of_a_batch_draw_what_two_ranks_draw_and_cover_the_times_once():
    module = task().train()
    shares = []
    for place in ((0, 8, 3), (4, 8, 3)):
        module.place = place
        shares.append(module._drawn_shares(4))
    assert sorted((torch.cat(shares) * 8).long().tolist()) == list(range(8))
    module.place = None
    assert sorted((module._drawn_shares(8) * 8).long().tolist()) == list(range(8))


def test_it_samples_the_same_picture_in_every_batch():
    module = task().eval()
    assert isinstance(module, SamplesImages)
    batch = batch_of(4)
    text = {name: batch[name] for name in ("tokens", "token_mask")}
    whole = module.sample_images(text, [0, 1, 2, 3], seed=7)
    assert whole.shape == (4, 3, SIZE, SIZE)
    assert 0 <= float(whole.min()) < float(whole.max()) <= 1
    last = module.sample_images({name: value[3:] for name, value in text.items()}, [3], seed=7)
    torch.testing.assert_close(last, whole[3:], rtol=0, atol=1e-5)
    assert not torch.allclose(whole, module.sample_images(text, [0, 1, 2, 3], seed=8))


def test_pictures_of_another_size_are_named_with_the_space():
    batch = {**batch_of(2), "image": torch.zeros(2, 3, 16, 16)}
    with pytest.raises(ConfigError, match="PixelSpace has size: 8, but the pictures have 16 x 16"):
        task().compute_losses(batch)


def test_a_task_begins_with_the_weights_of_one_with_fewer_channels():
    small, large = task(), task(seed=1)
    grown = UNet(7, 6, 8, [1, 2], 1, [2], residual=ScaleShift(groups=4), attention=Joint(8, head_dim=8))
    large.stage.network = grown
    large.load_state_dict(large.fitted(small.state_dict()))
    before, after = small.stage.network.stem.weight, grown.stem.weight  # pyright: ignore
    assert torch.equal(after[:, :3], before)
    assert not after[:, 3:].any()


def test_a_mask_without_a_picture_is_refused():
    with pytest.raises(ConfigError, match="a mask but no known_image"):
        task().sample_images({"mask": torch.ones(1, 1, SIZE, SIZE)}, [0], 0)
