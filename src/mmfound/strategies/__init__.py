"""How a run is spread over processes: what a recipe names under `trainer.strategy` beside Lightning's own."""

from mmfound.strategies.deepspeed import DeepSpeed
from mmfound.strategies.fsdp2 import Fsdp2

__all__ = ["DeepSpeed", "Fsdp2"]
