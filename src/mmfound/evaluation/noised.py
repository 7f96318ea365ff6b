"""What a CLIP sees in pictures that noise hides.

Shape letters: B pictures of a batch, n of this rank, N of all, C classes, T levels.
"""

from typing import Any

import torch
from torch import Tensor, nn

from mmfound import distributed
from mmfound.data.source import Source
from mmfound.diffusion.levels import add_noise
from mmfound.diffusion.noise import SampleNoise
from mmfound.diffusion.schedules import Schedule
from mmfound.errors import ConfigError, DataError
from mmfound.evaluation.abilities import require_abilities, require_tokenizer
from mmfound.evaluation.embedding import device_of, in_step
from mmfound.evaluation.evaluator import Evaluator
from mmfound.evaluation.table import Table
from mmfound.evaluation.zero_shot import class_embeddings
from mmfound.metrics.ranking import expected_hits
from mmfound.models.noised_tower import LEVELS, levels_of
from mmfound.text.prompts import DEFAULT_TEMPLATES, Prompts


class NoisedZeroShot(Evaluator):
    """Zero-shot accuracy at several levels of noise, from the least to the most.

    A picture's noise depends on the seed and its index alone and is the same at every level; so towers that have
    learned noise and towers that have not can be compared, on the same noised pictures. Metrics: `top1_t{number}` for
    each level, numbered 0 to 999 (the times of a table of 1000 steps), `top1` over all, and `chance`. Table: `by_time`.

    Args:
        source: pictures with labels and class names.
        schedule: of the noise.
        levels: how many of them, at equal shares of the schedule's training times.
        name: prefix of the metrics.
        templates: sentences with `{}` for the class name, a file of them, a name that `Prompts` knows, or `Prompts`.
        seed: of the noise.

    Raises:
        ConfigError: with fewer than two levels.
    """

    def __init__(
        self,
        source: Source,
        schedule: Schedule,
        *,
        levels: int = 6,
        name: str = "noised",
        templates: list[str] | str | Prompts = DEFAULT_TEMPLATES[0],
        seed: int = 0,
    ) -> None:
        super().__init__(source, name=name)
        if levels < 2:
            raise ConfigError(f"evaluator NoisedZeroShot {name!r}: levels is {levels}; it needs 2 at least.")
        self.prompts = templates if isinstance(templates, Prompts) else Prompts(templates)
        self.seed = seed
        self.numbers = [round(at * (LEVELS - 1) / (levels - 1)) for at in range(levels)]
        self.levels = [levels_of(schedule, torch.tensor(number)) for number in self.numbers]

    def check(self, model: nn.Module, data: Any) -> None:
        """The model embeds both sides, there is a tokenizer, and the classes have names."""
        user = self._user()
        require_abilities(user, model, "embed_noised", "embed_text")
        require_tokenizer(user, data)
        if not self.source.classes:
            raise ConfigError(f"{user}: {type(self.source).__name__} has no class names; use a source that has.")

    def evaluate(self, model: nn.Module, data: Any) -> dict[str, float]:
        """Accuracy at every level, over the whole source."""
        self.check(model, data)
        class_CE = class_embeddings(model, data.tokenizer, self.prompts, self.source.classes, {})
        found = []
        for batch, is_new in in_step(data.eval_batches(self.source, device_of(model))):
            hit_BT = self._hits(model, batch, class_CE)
            if is_new:
                found.append(hit_BT)
        if not found:
            raise DataError(f"{self._user()}: {type(self.source).__name__} has no picture that can be read.")
        top1_T = distributed.gather_rows(torch.cat(found)).mean(dim=0).tolist()
        chance = 1 / len(self.source.classes)
        rows = [
            (number, round(float(level.log_snr), 2), round(top1, 4), round(chance, 4))
            for number, level, top1 in zip(self.numbers, self.levels, top1_T, strict=True)
        ]
        self.tables = [Table("by_time", ("number", "log_snr", "top1", "chance"), rows)]
        by_time = {f"top1_t{number}": top1 for number, top1 in zip(self.numbers, top1_T, strict=True)}
        return by_time | {"top1": sum(top1_T) / len(top1_T), "chance": chance}

    def _hits(self, model: Any, batch: dict[str, Any], class_CE: Tensor) -> Tensor:
        """[B, T] float64, 1 where the right class is nearest."""
        if "label" not in batch:
            raise DataError(f"{self._user()} needs labels, and {type(self.source).__name__} has none.")
        x0 = batch["image"].float() * 2 - 1
        noise = SampleNoise(self.seed, batch["index"].tolist()).draw(x0)
        right_BC = torch.nn.functional.one_hot(batch["label"].to(x0.device), len(class_CE)).bool()
        columns = []
        for level in self.levels:
            image_BE = model.embed_noised(add_noise(x0, noise, level), level).float()
            with torch.autocast(x0.device.type, enabled=False):
                columns.append(expected_hits(image_BE @ class_CE.T, right_BC, (1,)))
        return torch.cat(columns, dim=1)

    def _user(self) -> str:
        return f"evaluator NoisedZeroShot {self.name!r}"
