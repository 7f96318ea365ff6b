"""What every objective shares."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.plugins.precision import MixedPrecision, Precision
from lightning.pytorch.utilities import GradClipAlgorithmType
from torch import Tensor

from mmfound.abilities import Classifies, EmbedsImages, EmbedsText, abilities_of
from mmfound.batch import ImageTextBatch
from mmfound.callbacks.ema import average_in
from mmfound.errors import ConfigError
from mmfound.optim import Optim
from mmfound.rebuilt import KeepsRebuiltOut
from mmfound.strategies.fsdp2 import shard
from mmfound.strategies.loading import set_weight
from mmfound.strategies.weights import weight
from mmfound.tasks.chunks import batch_norms, encode_in_chunks


class Task(KeepsRebuiltOut, LightningModule):
    """An objective: reads the keys of `batch_type`, returns named scalar losses.

    A subclass implements `compute_losses`; logging, optimiser and bounds are shared. It never sees rank, device,
    precision or strategy. One whose loss compares the samples of a batch says `whole_batch_loss = True`, and puts what
    it makes of each sample alone into `encode_chunk`, so that batches larger than memory can be trained on.

    Attributes:
        batch_type: the TypedDict whose required keys it reads.
        whole_batch_loss: whether the loss of a batch is another than the mean of its parts' losses.
        bounds: parameter name -> (lowest, highest); kept after each optimiser step.
        chunk_size: samples that `encode` encodes at a time; None for all.
        chunk_seeds: a seed for each chunk of the batch in hand, or none.

    Args:
        optim: optimiser and learning-rate schedule.
    """

    batch_type: ClassVar[type] = ImageTextBatch
    whole_batch_loss: ClassVar[bool] = False

    def __init__(self, optim: Optim) -> None:
        super().__init__()
        self.optim = optim
        self.bounds: dict[str, tuple[float, float]] = {}
        self.chunk_size: int | None = None
        self.chunk_seeds: Sequence[int] = ()

    def configure_model(self) -> None:
        """Shard the networks where the strategy asks for it."""
        if self.device_mesh is not None:
            shard(self, self.device_mesh["data_parallel"], abilities_of(self))

    def compute_losses(self, batch: Any) -> dict[str, Tensor]:
        """Scalars by name, the one to minimise under "loss"; the others are logged beside it."""
        raise NotImplementedError

    def encode_chunk(self, batch: Any) -> tuple[Tensor, ...]:
        """The part of `compute_losses` that takes each sample alone: tensors of one row per sample."""
        raise NotImplementedError

    def encode(self, batch: Mapping[str, Any]) -> tuple[Tensor, ...]:
        """What `encode_chunk` makes of the batch, with activations of only `chunk_size` samples at a time in memory."""
        if self.chunk_size is None or len(batch["key"]) <= self.chunk_size:
            return self.encode_chunk(batch)
        return encode_in_chunks(self.encode_chunk, batch, self.chunk_size, self.chunk_seeds)

    def use_chunks(self, size: int | None) -> None:
        """Let `encode` encode `size` samples at a time; None for all.

        Raises:
            ConfigError: when that would be another objective.
        """
        if size is not None:
            self._check_chunks(size)
        self.chunk_size = size

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

    def configure_gradient_clipping(
        self,
        optimizer: Any,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Also before fused optimisers in bfloat16, which Lightning refuses for a scaler that is not there."""
        plugin = self.trainer.precision_plugin
        if type(plugin) is not MixedPrecision or plugin.scaler is not None or not gradient_clip_val:
            super().configure_gradient_clipping(optimizer, gradient_clip_val, gradient_clip_algorithm)
            return
        algorithm = GradClipAlgorithmType(gradient_clip_algorithm or GradClipAlgorithmType.NORM)
        Precision.clip_gradients(plugin, optimizer, gradient_clip_val, algorithm)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Outside of training, the average of the weights is what is scored, where a run keeps one."""
        if self._trainer is None or self.trainer.state.fn == "fit":
            return
        if "state_dict" in checkpoint:
            checkpoint["state_dict"].update(average_in(checkpoint))
            return
        own = self.state_dict(keep_vars=True)  # which the strategy has loaded already
        for name, average in average_in(checkpoint).items():
            set_weight(own[name], average)

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        """One optimiser step, then the bounds."""
        super().optimizer_step(*args, **kwargs)
        self._enforce_bounds()

    def _check_chunks(self, size: int) -> None:
        reason = f"{type(self).__name__} cannot encode its batch in chunks of data.init_args.micro_batch_size {size}"
        instead = "leave micro_batch_size out, use more processes, or lower global_batch_size"
        if type(self).encode_chunk is Task.encode_chunk:
            raise ConfigError(
                f"{reason}: its loss compares all samples of the batch, and it has no encode_chunk. Move what it makes "
                f"of each sample into encode_chunk(batch), call self.encode(batch) in compute_losses; or {instead}."
            )
        norms = list(batch_norms(self))
        if norms:
            name, module = norms[0]
            more = f" and {len(norms) - 1} more" if len(norms) > 1 else ""
            raise ConfigError(
                f"{reason}: {name} ({type(module).__name__}{more}) normalises by the statistics of what it is given, "
                "which a chunk does not share with the batch, and would count every chunk twice in its running ones. "
                f"Use a tower without batch normalisation or with a frozen one (in eval mode); or {instead}."
            )

    @torch.no_grad()
    def _enforce_bounds(self) -> None:
        for name, (lowest, highest) in self.bounds.items():
            weight(self.get_parameter(name)).clamp(lowest, highest)

    def _log_mean_losses(self, batch: Mapping[str, Any], split: str) -> None:
        losses = {f"{split}/{name}": value for name, value in self._checked_losses(batch).items()}
        self.log_dict(losses, batch_size=len(batch["key"]), on_step=False, on_epoch=True, sync_dist=True)

    def _checked_losses(self, batch: Mapping[str, Any]) -> dict[str, Tensor]:
        self._check_keys(batch)
        return self.compute_losses(batch)

    def _check_keys(self, batch: Mapping[str, Any]) -> None:
        reads = self.batch_type.__required_keys__  # pyright: ignore[reportAttributeAccessIssue]
        missing = reads - batch.keys()
        if missing:
            raise ConfigError(
                f"{type(self).__name__} reads {sorted(reads)}, but the batch has only {sorted(batch)}; "
                f"missing {sorted(missing)}. Set data.init_args.tokenizer, or use a source with captions or labels."
            )
