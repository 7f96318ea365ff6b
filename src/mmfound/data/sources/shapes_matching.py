"""Where in a picture an object of every shape, size and colour fits best.

Shape letters: B pictures, K looks (shape and size), M candidates a picture, N candidates of all pictures, S side, C
side of the coarse picture, P places (C * C), Q colours.
"""

from itertools import product

import numpy as np
import torch
import torch.nn.functional as F

from mmfound.data.sources.shapes_render import DISTANCES
from mmfound.data.sources.shapes_scene import COLOURS, SHAPES, SIZES

LOOKS = tuple(product(SHAPES, SIZES))
RADII = np.array([SIZES[size] for _, size in LOOKS], dtype=np.float32)
PALETTE = np.array(list(COLOURS.values()), dtype=np.float32) / 255
_SLACK = 0.02  # of the side: how far out of its place in the picture an object may be found


class Bank:
    """All looks in the middle of a coarse picture, as spectra.

    Args:
        side: C.
    """

    def __init__(self, side: int) -> None:
        middle = np.full(len(LOOKS), 0.5, dtype=np.float32)
        cover_KCC = torch.from_numpy(cover(np.arange(len(LOOKS)), middle, middle, side))
        self.side = side
        self.spectrum = torch.fft.rfft2(cover_KCC).conj()
        self.energy_K = cover_KCC.square().sum(dim=(1, 2))
        self.centre_C = (np.arange(side) + side // 2) % side / side  # of an object, by how far its cover is moved
        inside_KC = np.abs(self.centre_C[None] - 0.5) <= 0.5 - RADII[:, None] + 0.5 / side
        self.outside = torch.from_numpy(~(inside_KC[:, :, None] & inside_KC[:, None, :]))

    def candidates(self, rest: np.ndarray, tone_B: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
        """[B, M] looks of the largest gains, best first, and [B, M, 2] their centres (x, y)."""
        coarse = F.interpolate(torch.from_numpy(rest), size=(self.side, self.side), mode="area")
        spectrum = torch.fft.rfft2(coarse)[:, None] * self.spectrum[None, :, None]
        corr_BK3P = torch.fft.irfft2(spectrum, s=(self.side, self.side)).flatten(3)
        step_B3 = torch.from_numpy(PALETTE)[None] - torch.from_numpy(tone_B)[:, None, None]  # [B, Q, 3]
        gain_BK = torch.full(corr_BK3P.shape[:2], -torch.inf)
        place_BK = torch.zeros_like(gain_BK, dtype=torch.int64)
        for step in step_B3.unbind(dim=1):
            gain_BKP = torch.einsum("bc,bkcp->bkp", 2 * step, corr_BK3P)
            gain_BKP.masked_fill_(self.outside.flatten(1), -torch.inf)
            best, place = gain_BKP.max(dim=2)
            best = best - step.square().sum(dim=1, keepdim=True) * self.energy_K
            place_BK = torch.where(best > gain_BK, place, place_BK)
            gain_BK = torch.maximum(best, gain_BK)
        look_BM = gain_BK.argsort(dim=1, descending=True)[:, :count]
        place_BM = place_BK.gather(1, look_BM).numpy()
        centre = np.stack([self.centre_C[place_BM % self.side], self.centre_C[place_BM // self.side]], axis=-1)
        return look_BM.numpy(), centre.astype(np.float32)


def cover(look_N: np.ndarray, x_N: np.ndarray, y_N: np.ndarray, size: int) -> np.ndarray:
    """Share of each pixel that an object covers, as `shapes_render.coverage`.

    Args:
        look_N: rows of `LOOKS`.
        x_N: float32 centres as fractions of the side, from the left.
        y_N: from the top.
        size: S.

    Returns:
        [N, S, S] float32 in [0, 1].
    """
    radius_N = RADII[look_N]
    middle = (np.arange(size, dtype=np.float32) + np.float32(0.5)) / np.float32(size)
    u = ((middle[None] - x_N[:, None]) / radius_N[:, None])[:, None, :]
    v = ((y_N[:, None] - middle[None]) / radius_N[:, None])[:, :, None]
    covered = np.empty((len(look_N), size, size), dtype=np.float32)
    for number, shape in enumerate(SHAPES):
        rows = np.flatnonzero(look_N // len(SIZES) == number)
        if len(rows):
            pixels = (radius_N[rows] * size)[:, None, None]
            covered[rows] = np.clip(np.float32(0.5) - DISTANCES[shape](u[rows], v[rows]) * pixels, 0, 1)
    return covered


def refine(
    rest: np.ndarray, tone_B: np.ndarray, row_N: np.ndarray, look_N: np.ndarray, centre_N2: np.ndarray, steps: int
) -> tuple[np.ndarray, ...]:
    """Candidates moved by Gauss-Newton, the colour chosen before every step.

    Returns:
        [N] each: colour, x, y, the squared error that the object takes away, and its squared contrast.
    """
    size = rest.shape[-1]
    step_NQ3 = (PALETTE[None] - tone_B[:, None, None])[row_N]
    energy_NQ = np.square(step_NQ3).sum(axis=2)
    seen = rest.reshape(len(rest), 3, -1)[row_N]  # [N, 3, S * S]
    every = np.arange(len(look_N))
    lowest = (RADII[look_N] - _SLACK)[:, None]

    def covered(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        return cover(look_N, x, y, size).reshape(len(look_N), -1)

    def coloured(now: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        corr_N3 = np.matmul(seen, now[:, :, None])[:, :, 0]
        gain_NQ = 2 * np.einsum("nqc,nc->nq", step_NQ3, corr_N3) - energy_NQ * np.square(now).sum(axis=1)[:, None]
        colour_N = gain_NQ.argmax(axis=1)
        return colour_N, gain_NQ[every, colour_N]

    move = np.float32(0.2 / size)
    for _ in range(steps):
        x, y = centre_N2.T
        now = covered(x, y)
        colour, _ = coloured(now)
        energy = energy_NQ[every, colour][:, None]
        error = np.matmul(step_NQ3[every, colour][:, None], seen)[:, 0] - energy * now
        across, down = (covered(x + move, y) - now) / move, (covered(x, y + move) - now) / move
        slope = np.stack([(across * error).sum(axis=1), (down * error).sum(axis=1)], axis=1)
        both = (across * down).sum(axis=1)
        curve = np.stack([np.square(across).sum(axis=1), both, both, np.square(down).sum(axis=1)], axis=1)
        curve = (energy * curve).reshape(-1, 2, 2) + 1e-6 * np.eye(2, dtype=np.float32)
        by = np.linalg.solve(curve, slope[:, :, None])[:, :, 0]
        centre_N2 = np.clip(centre_N2 + np.clip(by, -1 / size, 1 / size), lowest, 1 - lowest).astype(np.float32)
    now = covered(*centre_N2.T)
    colour, gain = coloured(now)
    energy = energy_NQ[every, colour] * np.square(now).sum(axis=1)
    return colour, centre_N2[:, 0], centre_N2[:, 1], gain, energy
