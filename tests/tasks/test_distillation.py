"""A student and its teacher."""

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from lightning.pytorch import LightningDataModule, Trainer
from torch.utils.data import DataLoader

from mmfound.callbacks.export_weights import exported_name
from mmfound.errors import ConfigError
from mmfound.models import Cbow, ConvTower, DualEncoder
from mmfound.optim import Constant, Optim
from mmfound.tasks import DistilledContrastive
from mmfound.teacher import Teacher
from mmfound.text import TrainedBpe
from mmfound.weights import export
from tests.tasks.test_contrastive import batch_of_eight


def described(width: int) -> dict[str, Any]:
    image = {"class_path": "mmfound.models.ConvTower", "init_args": {"width": width, "embed_dim": width}}
    text = {"class_path": "mmfound.models.Cbow", "init_args": {"vocab_size": 300, "width": width, "embed_dim": width}}
    return {"class_path": "mmfound.models.DualEncoder", "init_args": {"image_tower": image, "text_tower": text}}


def bpe(words: str, folder: Path, context: int = 16) -> TrainedBpe:
    made = TrainedBpe(300, context)
    made.prepare(lambda: [words] * 3, folder)
    made.setup(folder)
    return made


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    torch.manual_seed(5)
    encoder = DualEncoder(ConvTower(12, 12), Cbow(300, 12, 12), init_temperature=0.05)
    tokenizer = bpe("one two three", tmp_path / "bpe")
    export(encoder, described(12), tmp_path / "teacher", tokenizer=tokenizer, image={"size": 32})
    return tmp_path / "teacher"


def task(folder: Path, **arguments) -> DistilledContrastive:
    torch.manual_seed(0)
    optim = Optim(lambda groups: torch.optim.AdamW(groups, lr=3e-3), Constant())
    return DistilledContrastive(DualEncoder(ConvTower(4, 8), Cbow(300, 8, 8)), Teacher(folder), optim, **arguments)


def test_loss_is_open_clips(folder: Path):
    open_clip = pytest.importorskip("open_clip")
    model, batch = task(folder, distillation_weight=0.7).eval(), batch_of_eight()
    losses = model.compute_losses(batch)
    teacher = model.teacher.encoder
    with torch.no_grad():
        student = [model.embed_image(batch["image"]), model.embed_text(batch["tokens"], batch["token_mask"])]
        taught = [teacher.embed_image(batch["image"]), teacher.embed_text(batch["tokens"], batch["token_mask"])]
        scales = [model.encoder.logit_scale.exp(), teacher.logit_scale.exp()]
        contrastive, distill = open_clip.loss.DistillClipLoss()(*student, scales[0], *taught, scales[1])
    assert losses["contrastive"].item() == pytest.approx(contrastive.item(), rel=1e-5)
    assert losses["distillation"].item() == pytest.approx(distill.item(), rel=1e-5)
    assert losses["loss"].item() == pytest.approx((contrastive + 0.7 * distill).item(), rel=1e-5)


def test_the_teacher_is_no_part_of_the_student(folder: Path):
    model = task(folder)
    assert not any("teacher" in name for name in model.state_dict())
    assert len(list(model.parameters())) == len(list(model.encoder.parameters()))
    before = {name: value.clone() for name, value in model.teacher.encoder.state_dict().items()}
    model.train()
    model.compute_losses(batch_of_eight())["loss"].backward()
    assert not any(part.training for part in model.teacher.encoder.modules())
    assert all(torch.equal(value, before[name]) for name, value in model.teacher.encoder.state_dict().items())
    assert all(parameter.grad is None for parameter in model.teacher.encoder.parameters())
    assert exported_name(model) == "encoder"


def test_chunks_give_the_gradients_of_the_whole_batch(folder: Path):
    model = task(folder)
    for part in model.modules():
        if isinstance(part, torch.nn.BatchNorm2d):
            part.eval()
    batch = batch_of_eight()
    model.compute_losses(batch)["loss"].backward()
    whole = {name: p.grad.clone() for name, p in model.named_parameters()}
    model.zero_grad()
    model.use_chunks(3)
    model.compute_losses({**batch, "image": batch["image"]})["loss"].backward()
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.grad, whole[name], rtol=1e-4, atol=1e-6, msg=name)


def test_pictures_of_another_size_are_resized_for_the_teacher(folder: Path):
    teacher, batch = Teacher(folder), batch_of_eight()
    large = F.interpolate(batch["image"], (48, 48), mode="bicubic", antialias=True).clamp(0, 1)
    expected = F.interpolate(large, (32, 32), mode="bicubic", antialias=True).clamp(0, 1)
    image_BE, _ = teacher.embed({**batch, "image": large})
    torch.testing.assert_close(image_BE, teacher.encoder.embed_image(expected))
    as_bytes = (expected * 255).round().to(torch.uint8)
    both = [teacher.embed({**batch, "image": x})[0] for x in (as_bytes, as_bytes.float() / 255)]
    torch.testing.assert_close(both[0], both[1])


class _Data(LightningDataModule):
    def __init__(self, tokenizer: Any) -> None:
        super().__init__()
        self.tokenizer = tokenizer

    def train_dataloader(self):
        return DataLoader([batch_of_eight()], batch_size=None)  # pyright: ignore[reportArgumentType]

    val_dataloader = train_dataloader


@pytest.mark.filterwarnings("ignore:.*does not have many workers")
def test_a_teacher_with_another_tokenizer_is_refused_with_the_reason(folder: Path, tmp_path: Path):
    def fit(tokenizer: Any) -> None:
        trainer = Trainer(
            max_steps=1,
            accelerator="cpu",
            logger=False,
            limit_val_batches=0,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            default_root_dir=tmp_path,
        )
        trainer.fit(task(folder), datamodule=_Data(tokenizer))

    fit(bpe("one two three", tmp_path / "same", context=12))
    with pytest.raises(ConfigError, match="another tokenizer .* they differ in bpe, and its ids would mean"):
        fit(bpe("four five six seven", tmp_path / "other"))


def test_its_tower_can_be_probed(folder: Path):
    model, images = task(folder), batch_of_eight()["image"]
    assert torch.equal(model.image_features(images), model.encoder.image_features(images))
