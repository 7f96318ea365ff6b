"""The one DataModule: sources in, batches of `mmfound.batch` out."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal, cast

import torch
from lightning.pytorch import LightningDataModule
from torch import Tensor, nn

from mmfound import distributed
from mmfound.batch import image_float
from mmfound.data.bad import BadReads
from mmfound.data.captions import Caption, FirstCaption
from mmfound.data.checks import check_sources
from mmfound.data.loader import NoBatches, PassLoader, TrainLoader
from mmfound.data.mixture import Mixture
from mmfound.data.order import BlockShuffle, Order
from mmfound.data.reader import ListReader, Prepare, StreamReader
from mmfound.data.sampler import BatchPlan, PassSampler, ShareSampler
from mmfound.data.source import Source
from mmfound.data.sources.transformed import Transformed
from mmfound.data.stream import Passes
from mmfound.data.transforms import CenterCrop, RandomResizedCrop
from mmfound.data.workers import StartMethod, Workers, default_count
from mmfound.errors import ConfigError, DataError
from mmfound.text.tokenizer import Tokenizer

_WORTH_WORKERS = 2048  # samples of an evaluation below which starting workers takes longer than they save


class ImageTextData(LightningDataModule):
    """Training stream, validation and test passes, and batches for evaluators.

    The order of the training samples and every random draw on them are functions of the seed and the position alone:
    equal for any number of workers, and for any number of processes at the same global batch size.

    Args:
        source: training samples.
        global_batch_size: samples per optimiser step, over all processes and micro-batches.
        micro_batch_size: samples per forward pass of one process; its whole share by default. Gradient accumulation
            follows from it, or for a loss over the whole batch the chunks that the task encodes it in.
        val_source: samples whose mean losses are logged as `val/*`.
        test_source: the same for `test/*`.
        tokenizer: of the captions; without one batches have no text.
        train_image: picture transform in training, uint8 [3, H, W] to uint8 [3, S, S].
        eval_image: the same everywhere else; should not be random.
        image_size: S of the default transforms, RandomResizedCrop and CenterCrop; 224 unless a given transform has one.
        augment: further transforms after `train_image`, torchvision's v2 for instance, uint8 in and out.
        caption: which caption of a sample is trained on; the first by default. Evaluation takes the first.
        order: of the training samples; BlockShuffle by default.
        workers: processes that make batches; by default one less than the cores per process, at most 8.
        start_method: of the workers; "fork" starts sooner, and is unsafe beside CUDA and threads.
        prefetch: batches that each worker makes ahead.
        max_bad_fraction: share of unreadable samples above which the run stops.
        max_pixels: larger pictures count as bad before they are decoded.
        alpha: what shows through transparent pictures.
        exif: whether pictures are turned as their EXIF data say; most published models were trained without.
        seed: of order and draws; that of `seed_everything` by default.
    """

    def __init__(
        self,
        source: Source,
        global_batch_size: int,
        *,
        micro_batch_size: int | None = None,
        val_source: Source | None = None,
        test_source: Source | None = None,
        tokenizer: Tokenizer | None = None,
        train_image: nn.Module | None = None,
        eval_image: nn.Module | None = None,
        image_size: int | None = None,
        augment: list[nn.Module] | None = None,
        caption: Caption | None = None,
        order: Order | None = None,
        workers: int | None = None,
        start_method: StartMethod = "forkserver",
        prefetch: int = 2,
        max_bad_fraction: float = 0.01,
        max_pixels: int = 64_000_000,
        alpha: Literal["white", "drop"] = "white",
        exif: bool = False,
        seed: int | None = None,
    ) -> None:
        super().__init__()
        self.source, self.val_source, self.test_source = source, val_source, test_source
        self.tokenizer = tokenizer
        self.global_batch_size, self.micro_batch_size = global_batch_size, micro_batch_size
        self.order = order or BlockShuffle()
        self.max_bad_fraction = max_bad_fraction
        self.seed = seed
        given = (getattr(image, "size", None) for image in (train_image, eval_image))
        size = image_size or next((side for side in given if side), 224)
        trained = nn.Sequential(train_image or RandomResizedCrop(size), *(augment or []))
        limits: dict[str, Any] = {"max_pixels": max_pixels, "alpha": alpha, "exif": exif}
        self.caption = caption or FirstCaption()
        self._train_prepare = Prepare(trained, self.caption, **limits)
        self._eval_prepare = Prepare(eval_image or CenterCrop(size), **limits)
        self._workers = (workers, start_method, prefetch)
        self.train_loader: TrainLoader | None = None
        self.between_eval_batches: Callable[[], None] | None = None  # called by all ranks equally often
        self._together = 1  # micro-batches in a batch of the training loader
        self._skipped: set[int] = set()
        self._pass_loaders: list[PassLoader] = []
        self._goes_on_at: dict[str, Any] = {}  # the training loader's state in the checkpoint of a resumed fit

    def prepare_data(self) -> None:
        """Let a tokenizer that learns do so; on one process per machine."""
        check_sources(self._named_sources(), self.tokenizer)
        if self.tokenizer is not None and self.trainer is not None:
            self.tokenizer.prepare(self.source.captions, self._run_dir())

    def setup(self, stage: str | None = None) -> None:
        """Check sources and sizes before the first step; set the trainer's gradient accumulation, or the task's chunks.

        Raises:
            DataError: when a source is empty, or has no captions for the tokenizer.
            ConfigError: when the batch cannot be shared out.
        """
        check_sources(self._named_sources(), self.tokenizer)
        if self.tokenizer is not None and self.trainer is not None:
            self.tokenizer.setup(self._run_dir())
        if stage in (None, "fit"):
            self._set_micro_batches(self._plan())
            self._worker_pool().warm_up()

    def train_dataloader(self) -> TrainLoader:
        """This process's part of the stream, from its start; a resumed fit moves it on."""
        if self.train_loader is not None:
            self.train_loader.close()
        plan, seed = self._plan(), self._seed()
        if isinstance(self.source, Mixture):
            sources, stream = self.source.sources, self.source.stream(self.order, seed, plan.global_batch_size)
        else:
            arrangement = self.order.arrange(self.source.stretches(), seed)
            sources, stream = [self.source], Passes(arrangement, plan.global_batch_size)
        self.train_loader = TrainLoader(
            StreamReader(self._train_prepare, self.tokenizer, sources, seed),
            stream,
            plan,
            workers=self._worker_pool(),
            bad=BadReads(self.max_bad_fraction),
            identity={"seed": seed, "order": repr(self.order), "source": self.source.fingerprint()},
            skipped=self._skipped,
            together=self._together,
        )
        if self._goes_on_at:
            self.train_loader.load_state_dict(self._goes_on_at)
        return self.train_loader

    def state_dict(self) -> dict[str, Any]:
        """The training stream's position: Lightning does not restore a loader's own where an epoch was complete."""
        return {} if self.train_loader is None else {"train_loader": self.train_loader.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on at the position."""
        self._goes_on_at = state_dict.get("train_loader", {})

    def skip(self, position: int) -> None:
        """Leave out the global batch that starts at this position of the stream, from the next start of training on."""
        self._skipped.add(position)

    def val_dataloader(self) -> PassLoader | NoBatches:
        """One pass over `val_source`; no batch without one."""
        return self._pass(self.val_source)

    def test_dataloader(self) -> PassLoader | NoBatches:
        """One pass over `test_source`; no batch without one."""
        return self._pass(self.test_source)

    def predict_dataloader(self) -> PassLoader | NoBatches:
        """One pass over `test_source`, or without one over `val_source`, or over the training source."""
        return self._pass(self.test_source or self.val_source or self.source)

    def eval_batches(
        self, source: Source, device: torch.device | str, batch_size: int | None = None
    ) -> Iterator[dict[str, Any]]:
        """This process's share of a source, rank::world, for an evaluator; bad samples are left out and counted.

        Args:
            source: the samples, in their order.
            device: where the tensors go.
            batch_size: samples per batch; that of a training forward pass by default.

        Returns:
            Batches with image float32 in [0, 1] and, beside the keys of `mmfound.batch`, "index" [B] int64 in the
            source, "captions" (all of them, a list per sample) and "meta" (a dict per sample).
        """
        plan = self._plan()
        sampler = ShareSampler(len(source), batch_size or plan.micro_batch_size, plan.rank, plan.world)
        workers = self._worker_pool() if len(sampler.indices) >= _WORTH_WORKERS else Workers(0)
        reader = ListReader(self._eval_prepare, self.tokenizer, source)
        loader = PassLoader(reader, sampler, workers=workers, bad=BadReads(self.max_bad_fraction), keep=False)
        common = len(source) // plan.world // sampler.batch_size  # batches that every rank has
        for number, batch in enumerate(loader.everything()):
            moved = {name: _moved(value, torch.device(device)) for name, value in batch.items()}
            if batch["key"]:
                yield image_float(moved)
            if self.between_eval_batches is not None and number < common:
                self.between_eval_batches()

    def eval_pictures(self, source: Source) -> Source:
        """A source with its pictures decoded and transformed as `eval_batches` does it, uint8."""
        prepare = self._eval_prepare
        image = cast(nn.Module, prepare.image)
        return Transformed(source, image, max_pixels=prepare.max_pixels, alpha=prepare.alpha, exif=prepare.exif)

    def on_after_batch_transfer(self, batch: dict[str, Any], dataloader_idx: int) -> dict[str, Any]:
        """Make the picture float32 in [0, 1], on the device; in a batch of several chunks, the task does it."""
        in_chunks = self._together > 1 and len(batch["key"]) > self._plan().micro_batch_size
        return batch if in_chunks else image_float(batch)

    def on_exception(self, exception: BaseException) -> None:
        """End the workers, as Lightning calls no teardown then."""
        self.teardown("exception")

    def teardown(self, stage: str) -> None:
        """End the workers."""
        for loader in [self.train_loader, *self._pass_loaders]:
            if loader is not None:
                loader.close()
        self._pass_loaders.clear()

    def _pass(self, source: Source | None) -> PassLoader | NoBatches:
        if source is None:
            return NoBatches()
        plan = self._plan()
        if len(source) < plan.world:
            raise DataError(f"{type(source).__name__} has {len(source)} samples for {plan.world} processes; use fewer.")
        loader = PassLoader(
            StreamReader(self._eval_prepare, self.tokenizer, [source], self._seed()),
            PassSampler(len(source), plan),
            workers=self._worker_pool(),
            bad=BadReads(self.max_bad_fraction),
            keep=True,
        )
        self._pass_loaders.append(loader)
        return loader

    def _plan(self) -> BatchPlan:
        rank, world = distributed.rank(), distributed.world_size()
        if self.trainer is not None:
            rank, world = self.trainer.global_rank, self.trainer.world_size
        return BatchPlan.checked(self.global_batch_size, self.micro_batch_size, rank, world)

    def _set_micro_batches(self, plan: BatchPlan) -> None:
        if self.trainer is None:
            return
        task: Any = self.trainer.lightning_module
        if getattr(task, "whole_batch_loss", False):
            self._set_chunks(plan, task)
        elif self.trainer.accumulate_grad_batches not in (1, plan.accumulation):
            raise ConfigError(
                f"trainer.accumulate_grad_batches is {self.trainer.accumulate_grad_batches}; leave it out: it follows "
                f"from the batch sizes, {plan.global_batch_size} / ({plan.micro_batch_size} x {plan.world} processes) "
                f"= {plan.accumulation}."
            )
        else:
            self._together, self.trainer.accumulate_grad_batches = 1, plan.accumulation

    def _set_chunks(self, plan: BatchPlan, task: Any) -> None:
        assert self.trainer is not None
        compares = f"the loss of {type(task).__name__} compares all samples of the global batch"
        if self.trainer.accumulate_grad_batches != 1:
            raise ConfigError(
                f"trainer.accumulate_grad_batches is {self.trainer.accumulate_grad_batches}, but {compares} "
                f"({plan.global_batch_size}) and is another loss on a part. Leave it out; "
                "data.init_args.micro_batch_size bounds the memory."
            )
        self._together = plan.accumulation
        if hasattr(task, "use_chunks"):
            task.use_chunks(plan.micro_batch_size if plan.accumulation > 1 else None)
        elif plan.accumulation > 1:
            raise ConfigError(
                f"data.init_args.micro_batch_size is {plan.micro_batch_size}, so that {plan.accumulation} "
                f"micro-batches make a step, but {compares} ({plan.global_batch_size}) and is another loss on a part. "
                "Make it a mmfound.tasks.Task with an encode_chunk, leave micro_batch_size out, use more processes, "
                "or lower global_batch_size."
            )

    def _worker_pool(self) -> Workers:
        count, start_method, prefetch = self._workers
        if count is None:
            count = default_count(self.trainer.num_devices if self.trainer is not None else 1)
        return Workers(count, start_method, prefetch)

    def _seed(self) -> int:
        # Lightning keeps the number of seed_everything in this variable and has no function that reads it.
        return self.seed if self.seed is not None else int(os.environ.get("PL_GLOBAL_SEED", 0))

    def _run_dir(self) -> Path:
        assert self.trainer is not None
        return Path(self.trainer.default_root_dir)

    def _named_sources(self) -> dict[str, Source]:
        named = {"source": self.source, "val_source": self.val_source, "test_source": self.test_source}
        return {name: source for name, source in named.items() if source is not None}


def _moved(value: Any, device: torch.device) -> Any:
    return value.to(device, non_blocking=device.type == "cuda") if isinstance(value, Tensor) else value
