"""What every objective shares."""

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from lightning.pytorch import LightningModule
from torch import Tensor

from mmfound.abilities import Classifies, EmbedsImages, EmbedsText, abilities_of
from mmfound.batch import ImageTextBatch
from mmfound.callbacks.ema import average_in
from mmfound.errors import ConfigError
from mmfound.optim import Optim
from mmfound.strategies.fsdp2 import shard
from mmfound.strategies.weights import weight


class Task(LightningModule):
    """An objective: reads the keys of `batch_type`, returns named scalar losses.

    A subclass implements `compute_losses`; logging, optimiser and bounds are shared. It never sees rank, device,
    precision or strategy.

    Attributes:
        batch_type: the TypedDict whose required keys it reads.
        bounds: parameter name -> (lowest, highest); kept after each optimiser step.

    Args:
        optim: optimiser and learning-rate schedule.
    """

    batch_type: ClassVar[type] = ImageTextBatch

    def __init__(self, optim: Optim) -> None:
        super().__init__()
        self.optim = optim
        self.bounds: dict[str, tuple[float, float]] = {}

    def configure_model(self) -> None:
        """Shard the networks where the strategy asks for it."""
        if self.device_mesh is not None:
            shard(self, self.device_mesh["data_parallel"], abilities_of(self))

    def compute_losses(self, batch: Any) -> dict[str, Tensor]:
        """Scalars by name, the one to minimise under "loss"; the others are logged beside it."""
        raise NotImplementedError

    def training_step(self, batch: Mapping[str, Any], batch_idx: int) -> Tensor:
        """Losses of one micro-batch, logged as `train/*`."""
        losses = self._checked_losses(batch)
        self.log_dict({f"train/{name}": value.detach() for name, value in losses.items()}, batch_size=len(batch["key"]))
        return losses["loss"]

    def validation_step(self, batch: Mapping[str, Any], batch_idx: int) -> None:
        """Mean losses over the validation source, logged as `val/*`."""
        self._log_mean_losses(batch, "val")

    def test_step(self, batch: Mapping[str, Any], batch_idx: int) -> None:
        """Mean losses over the test source, logged as `test/*`."""
        self._log_mean_losses(batch, "test")

    def predict_step(self, batch: Mapping[str, Any], batch_idx: int) -> dict[str, Tensor]:
        """What the task's abilities make of the batch: `image_embedding`, `text_embedding`, `logits`.

        Raises:
            ConfigError: when it has none of these abilities.
        """
        found: dict[str, Tensor] = {}
        if isinstance(self, EmbedsImages):
            found["image_embedding"] = self.embed_image(batch["image"])
        if isinstance(self, EmbedsText) and "tokens" in batch:
            found["text_embedding"] = self.embed_text(batch["tokens"], batch["token_mask"])
        if isinstance(self, Classifies):
            found["logits"] = self.classify(batch["image"])
        if not found:
            raise ConfigError(
                f"{type(self).__name__} neither embeds nor classifies; give it a predict_step of its own."
            )
        return found

    def configure_optimizers(self) -> Any:
        """The optimiser and its schedule over all steps of the run."""
        return self.optim.build(self, int(self.trainer.estimated_stepping_batches))

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Outside of training, the average of the weights is what is scored, where a run keeps one."""
        if self._trainer is not None and self.trainer.state.fn != "fit":
            checkpoint["state_dict"].update(average_in(checkpoint))

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        """One optimiser step, then the bounds."""
        super().optimizer_step(*args, **kwargs)
        self._enforce_bounds()

    @torch.no_grad()
    def _enforce_bounds(self) -> None:
        for name, (lowest, highest) in self.bounds.items():
            weight(self.get_parameter(name)).clamp(lowest, highest)

    def _log_mean_losses(self, batch: Mapping[str, Any], split: str) -> None:
        losses = {f"{split}/{name}": value for name, value in self._checked_losses(batch).items()}
        self.log_dict(losses, batch_size=len(batch["key"]), on_step=False, on_epoch=True, sync_dist=True)

    def _checked_losses(self, batch: Mapping[str, Any]) -> dict[str, Tensor]:
        reads = self.batch_type.__required_keys__  # pyright: ignore[reportAttributeAccessIssue]
        missing = reads - batch.keys()
        if missing:
            raise ConfigError(
                f"{type(self).__name__} reads {sorted(reads)}, but the batch has only {sorted(batch)}; "
                f"missing {sorted(missing)}. Set data.init_args.tokenizer, or use a source with captions or labels."
            )
        return self.compute_losses(batch)
