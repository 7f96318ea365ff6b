"""A learned table of times.

Shape letters: B samples, D width.
"""

import torch
from torch import Tensor, nn

from mmfound.errors import ConfigError

LAST_TIME = 999.0  # of the usual discrete schedules


class TimeTable(nn.Module):
    """A row for each time, rows in between interpolated.

    With 1000 rows a time of the usual discrete schedules has a row of its own; few rows are learned faster.

    Args:
        rows: at equal distances from time 0 to 999.
        width: D.
        std: of the first values; 0 for zeros.

    Raises:
        ConfigError: with fewer than two rows.
    """

    def __init__(self, rows: int, width: int, std: float) -> None:
        super().__init__()
        if rows < 2:
            raise ConfigError(f"a table of times has {rows} rows; it needs 2 at least.")
        self.weight = nn.Parameter(torch.randn(rows, width) * std)

    def forward(self, time: Tensor) -> Tensor:
        """[B] float32 times, held to [0, 999], to [B, D]."""
        rows = self.weight.shape[0]
        place_B = time.clamp(0, LAST_TIME) * ((rows - 1) / LAST_TIME)
        below_B = place_B.floor().clamp(max=rows - 2)
        share_B1 = (place_B - below_B)[:, None].to(self.weight.dtype)
        row_B = below_B.long()
        return torch.lerp(self.weight[row_B], self.weight[row_B + 1], share_B1)
