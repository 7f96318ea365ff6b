"""The weights that a strategy trains, whatever of them this rank holds and in whatever precision it computes.

`Weight` is an ordinary parameter or buffer. The others have the same methods, so that averages, bounds and checks are
written once.
"""

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor


class Weight:
    """A tensor that every rank has whole.

    Args:
        tensor: the parameter or buffer.
    """

    def __init__(self, tensor: Tensor) -> None:
        self.tensor = tensor

    @property
    def master(self) -> Tensor:
        """What the optimiser changes: this rank's piece, of float32 where it keeps one beside; writing to it counts."""
        return self.tensor.detach()

    @property
    def computed_with(self) -> Tensor:
        """What the forward pass takes on this rank; writing to it counts until the next optimiser step."""
        return self.tensor.detach()

    def show(self, piece: Tensor) -> None:
        """Compute with other values; all ranks call it.

        Args:
            piece: like `master`.
        """
        self.computed_with.copy_(piece)

    def hide(self, before: Tensor) -> None:
        """Compute with what `computed_with` was before `show`; all ranks call it."""
        self.computed_with.copy_(before)

    def place(self, optimizer: Any) -> tuple[Tensor, int]:
        """What the optimiser knows it by, and where in it this rank's piece begins."""
        return self.tensor, 0

    def clamp(self, lowest: float, highest: float) -> None:
        """Hold within bounds, until an optimiser step."""
        self.master.clamp_(lowest, highest)

    def whole(self, piece: Tensor) -> Tensor:
        """All ranks' pieces put together, in the parameter's shape; all ranks call it."""
        return piece

    def part(self, whole: Tensor) -> Tensor:
        """This rank's piece of a whole tensor, on the device of `master`."""
        return whole.to(self.master.device)


class ShardedWeight(Weight):
    """A DTensor of FSDP2."""

    tensor: DTensor

    @property
    def master(self) -> Tensor:
        return self.tensor.to_local().detach()

    @property
    def computed_with(self) -> Tensor:
        return self.master

    def whole(self, piece: Tensor) -> Tensor:
        like = self.tensor
        sharded = DTensor.from_local(
            piece, like.device_mesh, like.placements, shape=like.shape, stride=like.stride(), run_check=False
        )
        return sharded.full_tensor()

    def part(self, whole: Tensor) -> Tensor:
        moved = whole.detach().to(self.master.device)
        return distribute_tensor(moved, self.tensor.device_mesh, self.tensor.placements, src_data_rank=None).to_local()


class Zero12Weight(Weight):
    """Of ZeRO 1 and 2: every rank computes with all of it, and trains a slice of it in float32, or nothing of it."""

    tensor: Any

    @property
    def master(self) -> Tensor:
        mapping = self.tensor._hp_mapping
        return torch.empty(0, device=self.tensor.device) if mapping is None else mapping.get_hp_fragment().detach()

    def place(self, optimizer: Any) -> tuple[Tensor, int]:
        mapping = self.tensor._hp_mapping
        group = mapping.param_group_index
        return optimizer.single_partition_of_fp32_groups[group], mapping.get_hp_fragment_address().start

    def show(self, piece: Tensor) -> None:
        self.computed_with.copy_(self.whole(piece))

    def clamp(self, lowest: float, highest: float) -> None:
        self.master.clamp_(lowest, highest)
        self.computed_with.clamp_(lowest, highest)

    def whole(self, piece: Tensor) -> Tensor:
        flat = torch.zeros(self.tensor.numel(), dtype=piece.dtype, device=self.tensor.device)
        if self.tensor._hp_mapping is not None:
            flat[self._slice].copy_(piece)
        if dist.is_initialized():
            dist.all_reduce(flat, group=self.tensor._dp_group)
        return flat.view(self.tensor.shape)

    def part(self, whole: Tensor) -> Tensor:
        flat = whole.flatten()[self._slice] if self.tensor._hp_mapping is not None else whole.new_empty(0)
        return flat.to(self.master.device)

    @property
    def _slice(self) -> slice:
        place = self.tensor._hp_mapping.lp_fragment_address
        return slice(place.start, place.start + place.numel)


class Zero3Weight(Weight):
    """Of ZeRO 3: every rank has an equal slice, padded at the end, which is gathered to compute."""

    tensor: Any

    @property
    def master(self) -> Tensor:
        partition, _ = self.tensor._z3_optimizer._get_fp32_opt_state_partition(self.tensor, False)
        return partition.detach()

    @property
    def computed_with(self) -> Tensor:
        return self.tensor.ds_tensor.detach()

    def place(self, optimizer: Any) -> tuple[Tensor, int]:
        group, start, _ = optimizer.grad_position[optimizer.get_param_id(self.tensor)]
        return optimizer.fp32_partitioned_groups_flat[group], start

    def show(self, piece: Tensor) -> None:
        self.computed_with.copy_(piece)
        self._refresh()

    def hide(self, before: Tensor) -> None:
        self.show(before)

    def clamp(self, lowest: float, highest: float) -> None:
        self.master.clamp_(lowest, highest)
        self.computed_with.clamp_(lowest, highest)
        self._refresh()

    def whole(self, piece: Tensor) -> Tensor:
        if dist.get_backend() == "nccl":
            piece = piece.cuda()  # of an average beside a master on the host
        pieces = [torch.empty_like(piece) for _ in range(dist.get_world_size())]
        dist.all_gather(pieces, piece.contiguous())
        return torch.cat(pieces)[: self.tensor.ds_numel].view(self.tensor.ds_shape)

    def part(self, whole: Tensor) -> Tensor:
        length = self.tensor.ds_tensor.numel()
        flat = nn.functional.pad(whole.flatten(), (0, length * dist.get_world_size() - whole.numel()))
        start = length * dist.get_rank()
        return flat[start : start + length].to(self.master.device)

    def clear_padding(self) -> None:
        """Make the padding zeros; DeepSpeed leaves in it what the memory held, NaN too, and saves and decays that."""
        length = self.tensor.ds_tensor.numel()
        own = min(max(self.tensor.ds_numel - length * dist.get_rank(), 0), length)
        self.master[own:] = 0
        self.computed_with[own:] = 0

    def _refresh(self) -> None:
        """A parameter that stays gathered between steps, because it is small, is gathered anew."""
        if self.tensor.ds_status.name == "AVAILABLE":
            self.tensor.partition()
            self.tensor.all_gather()


def weight(tensor: Tensor) -> Weight:
    """The view on one parameter or buffer of a module that a strategy has set up."""
    if isinstance(tensor, DTensor):
        return ShardedWeight(tensor)
    if getattr(tensor, "requires_grad", False) and hasattr(tensor, "_z3_optimizer"):
        return Zero3Weight(tensor)
    if hasattr(tensor, "_hp_mapping"):
        return Zero12Weight(tensor)
    return Weight(tensor)


def trained_weights(module: nn.Module) -> dict[str, Weight]:
    """Trainable parameters and the floating-point buffers that are saved, by name."""
    saved = {name for name in module.state_dict(keep_vars=True)}
    parameters = {name: p for name, p in module.named_parameters() if p.requires_grad}
    buffers = {name: b for name, b in module.named_buffers() if b.is_floating_point() and name in saved}
    return {name: weight(tensor) for name, tensor in (parameters | buffers).items()}


def make_contiguous(module: nn.Module) -> None:
    """Lay out every parameter in the order of its dimensions: channels_last cannot be split over ranks."""
    for parameter in module.parameters():
        parameter.data = parameter.data.contiguous()
