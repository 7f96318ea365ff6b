"""Muon, an optimiser for weights that are matrices."""

from collections.abc import Callable
from functools import wraps
from typing import Any

from timm import optim
from timm.optim import muon
from torch import Tensor


class Muon(optim.Muon):  # pyright: ignore[reportPrivateImportUsage]
    """timm's, whose steps of matrices and convolutions are orthogonalised; other weights have AdamW's.

    With `nesterov` those are NAdamW's.

    On the CPU it orthogonalises in the weights' own precision: timm has bfloat16 everywhere, which most processors
    emulate, ten times slower, and which a CPU gains nothing from at these sizes. Arguments and rates are timm's: with
    `adjust_lr_fn: match_rms_adamw`, the default, steps are about as large as AdamW's at the same rate. Its five
    `quintic` iterations have coefficients of their own; `ns_coefficients: original` are those of the source. It has to
    see whole matrices: under ZeRO, which cuts them into flat pieces, it is refused.

    Source: Jordan et al. 2024, "Muon: An optimizer for hidden layers in neural networks"; the size of the steps Liu et
    al. 2025, arXiv:2502.16982, section 2.2.
    """

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One step."""
        muon.zeropower_via_newtonschulz = _in_own_precision
        try:
            return super().step(closure)
        finally:
            muon.zeropower_via_newtonschulz = _orthogonalized


_orthogonalized = muon.zeropower_via_newtonschulz


@wraps(_orthogonalized)
def _in_own_precision(gradient: Tensor, *args: Any, **options: Any) -> Tensor:
    if gradient.device.type == "cpu":
        options["dtype"] = gradient.dtype
    return _orthogonalized(gradient, *args, **options)
