"""Measures the table of docs/diffusion_parity.md: python -m tests.parity.diffusers_differences."""

import warnings

import torch
from diffusers import DDIMScheduler, EulerDiscreteScheduler, HeunDiscreteScheduler
from torch import Tensor

from mmfound.diffusion import CLEAN, Ddim, DiscreteSchedule, Dynamic, Euler, Heun, Static
from mmfound.diffusion.estimates import Estimate
from tests.diffusion.denoisers import Given, silent
from tests.parity.test_diffusers_samplers import (
    NAMES,
    TRAILING,
    ancestral,
    denoiser,
    epsilon,
    first,
    follow,
    levels_at,
    noised,
    theirs,
)


def apart(a: Tensor, b: Tensor) -> float:
    return float((a - b).abs().max())


def ancestral_rounding(betas: str, times: range) -> float:
    found = 0.0
    for time in times:
        x, noise = noised(betas, time, torch.float32)
        found = max(found, apart(*ancestral("fixed_small", betas, time, time - 1, x, noise, exact=False)))
    return found


def ddim(betas: str, steps: int, **settings) -> Tensor:
    flag = settings.pop("use_clipped_model_output", True)
    scheduler = theirs(DDIMScheduler, betas, clip_sample=True, **settings)
    scheduler.set_timesteps(steps)
    x = first()
    for time in scheduler.timesteps:
        x = scheduler.step(epsilon(x, float(time)), int(time), x, use_clipped_model_output=flag).prev_sample
    return x


def noisy_ddim(betas: str, eta: float, seed: int) -> float:
    generator = torch.Generator().manual_seed(seed)
    x, draws = first().double(), list(torch.randn(25, *first().shape, generator=generator).double())
    scheduler = theirs(DDIMScheduler, betas, clip_sample=True, timestep_spacing="trailing")
    scheduler.set_timesteps(25)
    ours = Ddim(eta)(Static()(denoiser()), x, levels_at(betas, TRAILING), Given(draws))
    for time, noise in zip(TRAILING, draws, strict=True):
        given = {"eta": eta, "variance_noise": noise, "use_clipped_model_output": True}
        x = scheduler.step(epsilon(x, time), time, x, **given).prev_sample
    return apart(ours, x)


def our_ddim(betas: str, steps: int, spacing: str) -> Tensor:
    levels = DiscreteSchedule(NAMES[betas], spacing).levels(steps)
    return Ddim()(Static()(denoiser()), first(), levels, silent())


def spaced(betas: str, steps: int) -> list[int]:
    return [int(level.time) for level in DiscreteSchedule(NAMES[betas]).levels(steps)[:-1]]


def main() -> None:
    warnings.filterwarnings("ignore")
    for betas in NAMES:
        for times in (range(1, 10), range(10, 100), range(100, 1000)):
            print(f"DDPM step, stock table, {betas}, {times}: {ancestral_rounding(betas, times):.1e}")
        found = [noisy_ddim(betas, 1.0, seed) for seed in range(12)]
        print(f"DDIM, 25 steps, eta 1, {betas}: {min(found):.1e} to {max(found):.1e}")
        clipped = ddim(betas, 50, timestep_spacing="trailing", use_clipped_model_output=False)
        print(f"DDIM without the flag, {betas}: {apart(clipped, our_ddim(betas, 50, 'trailing')):.2g}")
        for steps in (50, 30):
            for spacing in ("trailing", "linspace"):
                other = ddim(betas, steps, timestep_spacing=spacing)
                ours = our_ddim(betas, steps, spacing)
                print(f"DDIM, {steps} steps, {spacing}, {betas}: {apart(other, ours):.2g}")
        times = spaced(betas, 20)
        levels = levels_at(betas, times)
        for scheduler, sampler in (
            (EulerDiscreteScheduler, Euler()),
            (HeunDiscreteScheduler, Heun(0.0)),
            (HeunDiscreteScheduler, Heun()),
        ):
            other = theirs(scheduler, betas, timestep_spacing="trailing")
            other.set_timesteps(timesteps=times)
            same = follow(other, first().double() / float(levels[0].alpha), epsilon)
            other.set_timesteps(timesteps=times)
            scaled = follow(other, first().double() * other.init_noise_sigma, epsilon)
            ours = sampler(denoiser(), first().double(), levels, silent())
            print(f"{sampler}, {betas}: {apart(same, ours):.2g}, from init_noise_sigma {apart(scaled, ours):.2g}")
    x0 = torch.randn(5, 3, 8, 8, generator=torch.Generator().manual_seed(0)) * 2
    held = Dynamic(99.5)(lambda x_t, level: Estimate(x_t))(x0, CLEAN).x0
    limited = DDIMScheduler(thresholding=True)._threshold_sample(x0)
    print(f"dynamic threshold with the default sample_max_value 1: {apart(held, limited):.2g}")


if __name__ == "__main__":
    main()
