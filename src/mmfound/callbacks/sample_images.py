"""What the model draws, while it learns to."""

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import torch
from lightning.fabric.utilities.rank_zero import rank_zero_warn
from lightning.pytorch import Callback, LightningModule, Trainer

from mmfound.batch import image_float
from mmfound.callbacks.evaluations import evaluating, show
from mmfound.data.errors import BadSample
from mmfound.diffusion.stage import Stage
from mmfound.errors import ConfigError
from mmfound.evaluation.abilities import require_abilities, require_tokenizer
from mmfound.evaluation.embedding import device_of
from mmfound.evaluation.selection import Spread
from mmfound.sheets import contact_sheet
from mmfound.text.lengths import cut_texts


class SampleImages(Callback):
    """Draws the same prompts from the same noise at every validation and after the last step.

    The pictures go to TensorBoard as `samples/images` and to `samples/step_{N}.png` in the run folder. They are drawn
    with the average of the weights where the run validates with it, on all ranks alike.

    Args:
        prompts: texts to draw. Without any, samples of `val_source` are taken, spread over it: their captions, and the
            pictures or labels that upsamplers, inpainting and classes are given.
        count: of samples of `val_source`.
        seed: of the noise.
        columns: pictures in a row.
    """

    def __init__(
        self, prompts: Sequence[str] | None = None, *, count: int = 8, seed: int = 0, columns: int = 4
    ) -> None:
        self.prompts = list(prompts or ())
        self.count = count
        self.seed = seed
        self.columns = columns
        self._step = -1

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Refuse what cannot be drawn and say which prompts are cut, before the first step."""
        user, data = "callback SampleImages", getattr(trainer, "datamodule", None)
        require_abilities(user, pl_module, "sample_images")
        if self.prompts:
            require_tokenizer(user, data)
            self._check_reads(pl_module)
        elif getattr(data, "val_source", None) is None:
            raise ConfigError(f"{user} has no prompts and the data no val_source to take some from; name either.")

    def _check_reads(self, task: LightningModule) -> None:
        stage: Any = getattr(task, "stage", None)
        if isinstance(stage, Stage):
            try:
                stage.check_reads(("prompt", "tokens", "token_mask"))
            except ConfigError as error:
                raise ConfigError(
                    f"callback SampleImages has prompts, and more is needed to draw: {error} Leave its prompts out, "
                    "and samples of val_source are drawn."
                ) from None

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """A prompt that is cut shows something else than it says."""
        for line in cut_texts(_tokenizer(trainer), self.prompts) if self.prompts else []:
            rank_zero_warn(f"callback SampleImages: a prompt is cut, {line}")

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draw."""
        if not trainer.sanity_checking:
            self._draw(trainer, pl_module)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draw after the last step, unless a validation has."""
        if 0 < trainer.max_steps <= trainer.global_step != self._step:
            self._draw(trainer, pl_module)

    def _draw(self, trainer: Trainer, task: Any) -> None:
        with evaluating(trainer, task):
            batch, texts = self._batch(trainer, task)
            if not texts:
                rank_zero_warn(
                    f"callback SampleImages: none of {self.count} samples of val_source can be read, so nothing is "
                    "drawn. Name prompts, or other samples."
                )
                return
            pictures = task.sample_images(batch, list(range(len(texts))), self.seed)
        self._step = trainer.global_step
        if trainer.is_global_zero:
            pixels = (pictures.float() * 255).round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
            columns = min(self.columns, len(texts))
            show(trainer, "samples/images", "step", contact_sheet(pixels, texts, columns, side=128))

    def _batch(self, trainer: Trainer, task: Any) -> tuple[dict[str, Any], list[str]]:
        """The same on all ranks: no rank of a sharded model draws alone."""
        data, device = trainer.datamodule, device_of(task)  # pyright: ignore[reportAttributeAccessIssue]
        if self.prompts:
            tokens = data.tokenizer(self.prompts)
            return {"prompt": self.prompts, **{name: value.to(device) for name, value in tokens.items()}}, self.prompts
        return _samples(data, self.count, device)


def _samples(data: Any, count: int, device: torch.device) -> tuple[dict[str, Any], list[str]]:
    """One batch of samples spread over the validation source, those left out that cannot be read."""
    pictures = data.eval_pictures(Spread(data.val_source, count))
    raws = []
    for index in range(len(pictures)):
        with suppress(BadSample):
            raws.append(pictures[index])
    if not raws:
        return {}, []
    texts = [(raw.get("captions") or [""])[0] for raw in raws]
    batch: dict[str, Any] = {}
    if all("image" in raw for raw in raws):
        batch["image"] = torch.stack([torch.from_numpy(raw["image"]).permute(2, 0, 1) for raw in raws])
    if data.tokenizer is not None and any(texts):
        batch.update(data.tokenizer(texts))
    if all("label" in raw for raw in raws):
        batch["label"] = torch.tensor([raw["label"] for raw in raws])
    return {"prompt": texts, **image_float({name: value.to(device) for name, value in batch.items()})}, texts


def _tokenizer(trainer: Trainer) -> Any:
    return getattr(getattr(trainer, "datamodule", None), "tokenizer", None)
