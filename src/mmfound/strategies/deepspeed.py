"""DeepSpeed's ZeRO: optimiser state, gradients and parameters split over ranks, on CUDA and on the CPU."""

import os
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.utilities.rank_zero import rank_zero_warn
from lightning.fabric.utilities.seed import reset_seed
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.accelerators import CPUAccelerator
from lightning.pytorch.strategies import DDPStrategy, DeepSpeedStrategy
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from torch import nn
from torch.optim import Optimizer

from mmfound.errors import CheckpointError, ConfigError
from mmfound.runs import extensions
from mmfound.strategies import zero_files
from mmfound.strategies.folders import FolderSaving
from mmfound.strategies.loading import load_moments, load_weights
from mmfound.strategies.scan import save_by_value
from mmfound.strategies.weights import Zero3Weight, make_contiguous, trained_weights
from mmfound.strategies.whole import read_meta, whole_checkpoint

_NO_OPS = ("deepspeed_shm_comm",)  # on the CPU: a minute to compile, for what gloo does as well


class DeepSpeed(FolderSaving, DeepSpeedStrategy):
    """ZeRO 1, 2 or 3 as Lightning runs it, on CUDA or CPU; loads checkpoints of any strategy and number of ranks.

    Its own checkpoints are folders that the same number of ranks reads; `mmfound convert` makes one file of them.

    Args:
        stage: what is split: 1 the optimiser's state, 2 gradients too, 3 parameters too.
        offload_optimizer: keep the optimiser's state in the host's memory.
        offload_parameters: and the parameters (stage 3).
        process_group_backend: "nccl" or "gloo"; that of the device by default.
        config: settings of DeepSpeed by their own names, in place of its or Lightning's defaults.
    """

    def __init__(
        self,
        stage: int = 2,
        offload_optimizer: bool = False,
        offload_parameters: bool = False,
        process_group_backend: str | None = None,
        config: dict[str, Any] | None = None,
    ) -> None:
        if stage not in (1, 2, 3):
            raise ConfigError(f"DeepSpeed: stage is {stage}; there are 1, 2 and 3")
        if offload_parameters and stage != 3:
            raise ConfigError(f"DeepSpeed: offload_parameters needs stage 3, and stage is {stage}")
        self.extra_config = config or {}
        _check_config(self.extra_config)
        self.names: list[list[str]] = []  # of the parameters in each of the optimiser's groups
        self._offloads = offload_optimizer
        zero_files.choose_accelerator()
        super().__init__(
            stage=stage,
            offload_optimizer=offload_optimizer,
            offload_parameters=offload_parameters,
            logging_batch_size_per_gpu=1,  # else a loader is made to ask it
            process_group_backend=process_group_backend,
        )

    def setup_environment(self) -> None:
        """Start the ranks; Lightning's own refuses the CPU."""
        assert isinstance(self.config, dict)
        _merge(self.config, self.extra_config)
        if isinstance(self.accelerator, CPUAccelerator):
            _use_cpu()
        if self._offloads:
            _prepare_to_compile()
        DDPStrategy.setup_environment(self)

    def setup_distributed(self) -> None:
        """Start the process group."""
        if not isinstance(self.accelerator, CPUAccelerator):
            super().setup_distributed()
            return
        reset_seed()
        self.set_world_ranks()
        self._init_deepspeed_distributed()

    @property
    def root_device(self) -> torch.device:
        """With an index on the CPU, too, which DeepSpeed asks for."""
        device = super().root_device
        return torch.device("cpu", self.local_rank) if device.type == "cpu" else device

    def setup(self, trainer: Trainer) -> None:
        """Hand the task to DeepSpeed.

        Raises:
            ConfigError: when the recipe asks for what DeepSpeed cannot do.
        """
        assert self.lightning_module is not None
        _check_task(self.lightning_module, trainer)
        make_contiguous(self.lightning_module)
        super().setup(trainer)
        _cast_statistics(self.lightning_module)
        if self.zero_stage_3:
            _gather_with_task(self.lightning_module)
            _clear_padding(self.lightning_module)

    def fill(self, checkpoint: dict[str, Any], folder: Path) -> None:
        """DeepSpeed's files for weights and moments, and one for all else."""
        from deepspeed.runtime.zero.config import ZeroStageEnum

        save_by_value(ZeroStageEnum)
        rest = {name: value for name, value in checkpoint.items() if name not in ("state_dict", "optimizer_states")}
        optimizer: Any = self.deepspeed_engine.optimizer
        groups = optimizer.param_groups
        rest[zero_files.GROUPS] = [
            {**zero_files.settings(group), "params": names} for group, names in zip(groups, self.names, strict=True)
        ]
        self.deepspeed_engine.save_checkpoint(str(folder), client_state={}, tag=zero_files.TAG)
        self.write_meta(rest, folder)

    def load_checkpoint(self, checkpoint_path: Any, weights_only: bool | None = None) -> dict[str, Any]:
        """Load a folder of as many ranks, or what another strategy or number of ranks has saved."""
        path = Path(checkpoint_path)
        if self._is_fitting and zero_files.is_zero(path):
            self.scan(path)
            meta = read_meta(path, self.trusted)
            if self._wrote(path, meta):
                self._load_own(path)
                return meta
        checkpoint = whole_checkpoint(path, self.trusted)
        self._load_whole(checkpoint)
        return checkpoint

    def _wrote(self, path: Path, meta: dict[str, Any]) -> bool:
        """Whether a checkpoint is of this stage, number of ranks and order of parameters, which DeepSpeed goes by."""
        names = [group["params"] for group in meta[zero_files.GROUPS]]
        return zero_files.written_by(path) == (self._stage, self.world_size) and names == self.names

    @property
    def _stage(self) -> int:
        assert isinstance(self.config, dict)
        return int(self.config["zero_optimization"]["stage"])

    @property
    def _is_fitting(self) -> bool:
        assert self.lightning_module is not None
        return self.lightning_module.trainer.state.fn == "fit"

    def _load_own(self, path: Path) -> None:
        assert self.lightning_module is not None
        loaded, _ = self.deepspeed_engine.load_checkpoint(
            str(path),
            tag=zero_files.TAG,
            load_lr_scheduler_states=False,
            load_module_strict=self.lightning_module.strict_loading,
        )
        if loaded is None:
            raise CheckpointError(f"DeepSpeed cannot read checkpoint {path}; name another one")
        _clear_padding(self.lightning_module)

    def _load_whole(self, checkpoint: dict[str, Any]) -> None:
        """Weights and, in a fit, masters and moments; every rank has read all and takes its part."""
        task = self.lightning_module
        assert task is not None
        load_weights(task, checkpoint.pop("state_dict"))
        states = checkpoint.get("optimizer_states") or []
        if self._is_fitting and states:
            load_moments(task, self.deepspeed_engine.optimizer, self.names, states[0])

    def _init_optimizers(self) -> Any:
        """The recipe's; one that computes on the host where its state is there."""
        try:
            optimizer, schedule = super()._init_optimizers()
        except MisconfigurationException as error:
            raise ConfigError(f"the task's optimisers do not suit DeepSpeed: {error} Use machines/ddp") from error
        _check_optimizer(optimizer)
        assert self.lightning_module is not None
        name = {id(parameter): name for name, parameter in self.lightning_module.named_parameters()}
        self.names = [[name[id(parameter)] for parameter in group["params"]] for group in optimizer.param_groups]
        if self._offloads:
            optimizer = _on_host(optimizer)
            if schedule is not None:
                schedule.scheduler.optimizer = optimizer
        return optimizer, schedule


def _check_task(task: LightningModule, trainer: Trainer) -> None:
    if not task.automatic_optimization:
        raise ConfigError(
            f"{type(task).__name__} optimises by itself (automatic_optimization is False), and DeepSpeed steps for one "
            "optimiser that it knows; use machines/ddp or machines/fsdp2"
        )
    if trainer.gradient_clip_val and trainer.gradient_clip_algorithm == "value":
        raise ConfigError(
            "trainer.gradient_clip_algorithm is value, and DeepSpeed clips by norm alone; leave it out, or use "
            "machines/ddp"
        )


def _check_optimizer(optimizer: Optimizer) -> None:
    from timm import optim  # seconds

    if isinstance(optimizer, (torch.optim.Muon, optim.Muon)):  # pyright: ignore[reportPrivateImportUsage]
        raise ConfigError(
            f"{type(optimizer).__name__} needs weights that are matrices, and ZeRO cuts them into flat pieces; use "
            "AdamW, or machines/fsdp2 or machines/ddp"
        )


def _use_cpu() -> None:
    """Let DeepSpeed compute on the CPU, where there is a GPU too."""
    os.environ["DS_ACCELERATOR"] = "cpu"
    import deepspeed
    from deepspeed.accelerator import set_accelerator
    from deepspeed.accelerator.cpu_accelerator import CPU_Accelerator

    set_accelerator(CPU_Accelerator())
    deepspeed.ops.__compatible_ops__.update(dict.fromkeys(_NO_OPS, False))


def _prepare_to_compile() -> None:
    """DeepSpeed's Adam for the host is compiled when it is first used, into the environment that it belongs to.

    Raises:
        ConfigError: without a compiler.
    """
    missing = extensions.missing_compiler()
    if missing is not None:
        raise ConfigError(f"offload compiles DeepSpeed's optimiser for the host; {missing}")
    for lock in extensions.prepare():
        rank_zero_warn(f"removed {lock}, which a killed build has left")


def _on_host(optimizer: Optimizer) -> Optimizer:
    """DeepSpeed's Adam for the host, over the same parameter groups."""
    decoupled = {torch.optim.AdamW: True, torch.optim.Adam: False}.get(type(optimizer))
    if decoupled is None:
        raise ConfigError(
            f"DeepSpeed keeps the state of Adam and AdamW on the host, and the recipe's optimiser is "
            f"{type(optimizer).__name__}; use one of those, or an overlay without offload"
        )
    from deepspeed.ops.adam import DeepSpeedCPUAdam

    return DeepSpeedCPUAdam(optimizer.param_groups, adamw_mode=decoupled)


def _check_config(config: dict[str, Any]) -> None:
    arguments = {"stage": "stage", "offload_optimizer": "offload_optimizer", "offload_param": "offload_parameters"}
    taken = arguments.keys() & config.get("zero_optimization", {}).keys()
    if config.get("data_types"):
        raise ConfigError("DeepSpeed: config sets data_types, under which checkpoints could not be read; leave it out")
    if taken:
        name = min(taken)
        raise ConfigError(
            f"DeepSpeed: config sets zero_optimization.{name}; set the argument {arguments[name]} instead"
        )


def _merge(config: dict[str, Any], extra: dict[str, Any]) -> None:
    for name, value in extra.items():
        if isinstance(value, dict) and isinstance(config.get(name), dict):
            _merge(config[name], value)
        else:
            config[name] = value


def _cast_statistics(task: nn.Module) -> None:
    """Keep running statistics in the precision of the weights beside them, which DeepSpeed alone casts."""
    for part in task.modules():
        dtypes = {parameter.dtype for parameter in part.parameters(recurse=False)}
        if dtypes == {torch.bfloat16}:
            for buffer in part.buffers(recurse=False):
                if buffer.is_floating_point():
                    buffer.data = buffer.data.to(torch.bfloat16)


def _clear_padding(task: nn.Module) -> None:
    for trained in trained_weights(task).values():
        if isinstance(trained, Zero3Weight):
            trained.clear_padding()


def _gather_with_task(task: Any) -> None:
    """Gather, with the task itself, the parameters of modules whose `forward` is never called.

    ZeRO 3 gathers a module's own parameters when its `forward` begins; a dual encoder is called by other methods, and
    its temperature is read by the task. A frozen part is called by the module that has it, by any of its methods.
    """
    from deepspeed.runtime.zero import register_external_parameter

    for module in task.modules():
        if module is not task and type(module).forward is nn.Module.forward:
            for parameter in module.parameters(recurse=False):
                register_external_parameter(task, parameter)
        for part in getattr(module, "rebuilt", ()):
            for parameter in module.get_submodule(part).parameters(recurse=False):
                register_external_parameter(module, parameter)
