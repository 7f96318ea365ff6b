import pytest
import torch

from mmfound.diffusion import (
    X0,
    CleanUniform,
    Edm,
    EdmWeight,
    Epsilon,
    Level,
    LossWeight,
    MinSnr,
    Prediction,
    SoftMinSnr,
    Uniform,
    V,
    denoising_losses,
)
from mmfound.errors import ConfigError

LOG_SNR = torch.linspace(-15, 12, 28, dtype=torch.float64)
LEVEL = Level(torch.zeros_like(LOG_SNR), LOG_SNR)
SNR = LOG_SNR.exp()
PREDICTIONS = {"epsilon": Epsilon(), "x0": X0(), "v": V(), "edm": Edm(0.5)}
every_prediction = pytest.mark.parametrize("prediction", PREDICTIONS.values(), ids=PREDICTIONS)


def losses(prediction: Prediction, weight: LossWeight) -> torch.Tensor:
    """Of the same estimate of x0, told in terms of the prediction."""
    generator = torch.Generator().manual_seed(0)
    x0, noise, estimate = torch.randn(3, len(LOG_SNR), 6, dtype=torch.float64, generator=generator)
    alpha, sigma = LEVEL.alpha[:, None], LEVEL.sigma[:, None]
    output = prediction.from_x0(estimate, alpha * x0 + sigma * noise, LEVEL)
    return denoising_losses(output, x0, noise, LEVEL, prediction=prediction, weight=weight)


@every_prediction
@pytest.mark.parametrize("gamma", [1.0, 5.0])
def test_min_snr_counts_x0_by_the_smaller_of_snr_and_gamma_under_every_prediction(prediction: Prediction, gamma: float):
    implied = MinSnr(gamma)(LEVEL, prediction) / prediction.out(LEVEL) ** 2
    torch.testing.assert_close(implied, SNR.clamp(max=gamma))


def test_min_snr_on_outputs_has_the_published_forms():
    least = SNR.clamp(max=5)
    torch.testing.assert_close(MinSnr(5)(LEVEL, Epsilon()), least / SNR)
    torch.testing.assert_close(MinSnr(5)(LEVEL, X0()), least)
    torch.testing.assert_close(MinSnr(5)(LEVEL, V()), least / (SNR + 1))


@pytest.mark.parametrize(
    "weight", [CleanUniform(), MinSnr(), SoftMinSnr(), EdmWeight()], ids=lambda weight: type(weight).__name__
)
def test_weights_on_x0_make_one_loss_of_all_predictions(weight: LossWeight):
    wanted = losses(X0(), weight)
    for prediction in (Epsilon(), V(), Edm(0.5)):
        torch.testing.assert_close(losses(prediction, weight), wanted, rtol=1e-7, atol=0)


def test_the_loss_of_epsilon_is_that_of_x0_times_snr_and_the_loss_of_v_times_snr_plus_one():
    of_x0 = losses(X0(), Uniform())
    torch.testing.assert_close(losses(Epsilon(), Uniform()), SNR * of_x0, rtol=1e-7, atol=0)
    torch.testing.assert_close(losses(V(), Uniform()), (SNR + 1) * of_x0, rtol=1e-7, atol=0)


def test_soft_min_snr_is_k_diffusions_weight_on_the_output_of_edm():
    sigma_data, s = 0.5, (-LOG_SNR / 2).exp()
    published = (s * sigma_data) ** 2 / (s**2 + sigma_data**2) ** 2
    torch.testing.assert_close(SoftMinSnr(1 / sigma_data**2)(LEVEL, Edm(sigma_data)), published)


@pytest.mark.parametrize("sigma_data", [0.5, 1.0])
def test_the_edm_weight_is_the_published_one_on_x0_and_one_on_the_output(sigma_data: float):
    s = (-LOG_SNR / 2).exp()
    torch.testing.assert_close(
        EdmWeight(sigma_data)(LEVEL, X0()), (s**2 + sigma_data**2) / (s * sigma_data) ** 2, rtol=1e-12, atol=0
    )
    torch.testing.assert_close(EdmWeight(sigma_data)(LEVEL, Edm(sigma_data)), torch.ones_like(LOG_SNR))


@pytest.mark.parametrize("build", [lambda: MinSnr(0), lambda: SoftMinSnr(-1), lambda: EdmWeight(0)])
def test_a_weight_of_nothing_is_refused(build):
    with pytest.raises(ConfigError, match="must be above 0"):
        build()
