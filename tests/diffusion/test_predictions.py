import math

import pytest
import torch
from torch import Tensor

from mmfound.diffusion import X0, Edm, Epsilon, Level, Prediction, V, add_noise
from mmfound.errors import ConfigError

PREDICTIONS = [Epsilon(), X0(), V(), Edm(0.5), Edm(1.0)]
every_prediction = pytest.mark.parametrize(
    "prediction", PREDICTIONS, ids=["epsilon", "x0", "v", "edm", "edm of unit variance"]
)
LOG_SNR = torch.linspace(-12, 12, 25, dtype=torch.float64)


def samples(seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(len(LOG_SNR), 3, 4, 4, dtype=torch.float64, generator=generator)


def noised() -> tuple[Tensor, Tensor, Tensor, Level]:
    level = Level(torch.zeros_like(LOG_SNR), LOG_SNR)
    x0, noise = samples(0), samples(1)
    return x0, noise, add_noise(x0, noise, level), level


@every_prediction
def test_the_output_that_means_a_clean_sample_gives_it_back(prediction: Prediction):
    x0, _, x_t, level = noised()
    torch.testing.assert_close(
        prediction.to_x0(prediction.from_x0(x0, x_t, level), x_t, level), x0, rtol=1e-8, atol=1e-8
    )


@every_prediction
def test_the_target_means_the_clean_sample(prediction: Prediction):
    x0, noise, x_t, level = noised()
    target = prediction.target(x0, noise, level)
    torch.testing.assert_close(prediction.to_x0(target, x_t, level), x0, rtol=1e-8, atol=1e-8)


def test_targets_are_the_noise_the_sample_and_v():
    x0, noise, _, level = noised()
    alpha, sigma = (factor.reshape(-1, 1, 1, 1) for factor in (level.alpha, level.sigma))
    exact = {"rtol": 1e-9, "atol": 1e-9}
    torch.testing.assert_close(Epsilon().target(x0, noise, level), noise, **exact)
    torch.testing.assert_close(X0().target(x0, noise, level), x0, **exact)
    torch.testing.assert_close(V().target(x0, noise, level), alpha * noise - sigma * x0, **exact)


def test_the_noise_is_an_exact_target_in_float32_where_it_is_faint():
    level = Level(torch.tensor(0.0), torch.tensor(12.0, dtype=torch.float64))
    x0, noise = samples(0).float(), samples(1).float()
    torch.testing.assert_close(Epsilon().target(x0, noise, level), noise, rtol=1e-6, atol=1e-6)


@every_prediction
@pytest.mark.parametrize("other", PREDICTIONS, ids=lambda other: type(other).__name__)
def test_every_prediction_translates_into_every_other_and_back(prediction: Prediction, other: Prediction):
    _, _, x_t, level = noised()
    output = samples(2)
    there = other.from_x0(prediction.to_x0(output, x_t, level), x_t, level)
    back = prediction.from_x0(other.to_x0(there, x_t, level), x_t, level)
    torch.testing.assert_close(back, output, rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize("sigma_data", [0.5, 1.0])
def test_edm_factors_are_the_published_ones_for_x_over_alpha(sigma_data: float):
    for s in (0.002, 0.1, 1.0, 80.0):
        level = Level(torch.tensor(0.0), torch.tensor(-2 * math.log(s), dtype=torch.float64))
        total = s**2 + sigma_data**2
        alpha, edm = float(level.alpha), Edm(sigma_data)
        assert float(edm.scale(level)) * alpha == pytest.approx(1 / math.sqrt(total))
        assert float(edm.skip(level)) * alpha == pytest.approx(sigma_data**2 / total)
        assert float(edm.out(level)) == pytest.approx(s * sigma_data / math.sqrt(total))


def test_edm_gives_the_network_inputs_and_targets_of_unit_variance():
    generator = torch.Generator().manual_seed(0)
    for log_snr in (-8.0, 0.0, 8.0):
        level = Level(torch.tensor(0.0), torch.tensor(log_snr, dtype=torch.float64))
        x0, noise = torch.randn(2, 200_000, dtype=torch.float64, generator=generator)
        x0 = 0.3 * x0
        edm = Edm(0.3)
        assert float((edm.scale(level) * add_noise(x0, noise, level)).std()) == pytest.approx(1, rel=0.01)
        assert float(edm.target(x0, noise, level).std()) == pytest.approx(1, rel=0.01)


def test_a_standard_deviation_of_zero_is_refused():
    with pytest.raises(ConfigError, match="sigma_data is 0"):
        Edm(0)
