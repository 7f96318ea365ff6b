"""Weights between two models."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from mmfound.cli import main
from mmfound.errors import ConfigError
from mmfound.interpolation import interpolate, interpolate_exports
from mmfound.models import Cbow, ConvTower, DualEncoder
from mmfound.text import TrainedBpe, load_tokenizer
from mmfound.weights import export, pretrained

CONFIG = {
    "class_path": "mmfound.models.DualEncoder",
    "init_args": {
        "image_tower": {"class_path": "mmfound.models.ConvTower", "init_args": {"width": 4, "embed_dim": 8}},
        "text_tower": {
            "class_path": "mmfound.models.Cbow",
            "init_args": {"vocab_size": 300, "width": 8, "embed_dim": 8},
        },
    },
}


def random_encoder(seed: int) -> DualEncoder:
    torch.manual_seed(seed)
    encoder = DualEncoder(ConvTower(4, 8), Cbow(300, 8, 8))
    for name, value in encoder.state_dict().items():
        value.copy_(torch.full_like(value, seed + 1) if not value.is_floating_point() else torch.rand_like(value) + 0.1)
        if name.endswith("bias"):
            value.fill_(-0.0)  # whose sign a sum with nothing would lose
    return encoder


def tokenizer(words: str, folder: Path) -> TrainedBpe:
    made = TrainedBpe(300, 16)
    made.prepare(lambda: [words] * 3, folder)
    made.setup(folder)
    return made


@pytest.fixture
def exports(tmp_path: Path) -> tuple[Path, Path]:
    made = tokenizer("one two three", tmp_path / "bpe")
    for name, seed in (("a", 0), ("b", 1)):
        export(random_encoder(seed), CONFIG, tmp_path / name, tokenizer=made, image={"size": 32})
    return tmp_path / "a", tmp_path / "b"


def bits(state: dict[str, torch.Tensor]) -> dict[str, bytes]:
    return {name: value.contiguous().numpy().tobytes() for name, value in state.items()}


def test_the_ends_are_the_models_bit_for_bit():
    a, b = random_encoder(0).state_dict(), random_encoder(1).state_dict()
    assert bits(a) != bits(b)
    assert bits(interpolate(a, b, 0.0)) == bits(a)
    assert bits(interpolate(a, b, 1.0)) == bits(b)


def test_in_between_is_the_weighted_mean_statistics_too_and_counts_are_of_the_nearer_end():
    a, b = random_encoder(0).state_dict(), random_encoder(1).state_dict()
    for alpha, nearer in ((0.25, a), (0.75, b)):
        for name, value in interpolate(a, b, alpha).items():
            if value.is_floating_point():
                torch.testing.assert_close(value, (1 - alpha) * a[name] + alpha * b[name])
            else:
                assert torch.equal(value, nearer[name]), name
    assert any("running_var" in name for name in a)
    assert any("num_batches_tracked" in name for name in a)


def test_half_precision_is_averaged_in_float32():
    a, b = {"x": torch.tensor([256.0]).half()}, {"x": torch.tensor([256.5]).half()}
    mixed = interpolate(a, b, 0.5)["x"]
    assert mixed.dtype == torch.float16
    assert mixed.item() == 256.25


@pytest.mark.parametrize(
    ("b", "said"),
    [
        ({"x": torch.ones(2), "y": torch.ones(1)}, "only the second has y"),
        ({}, "only the first has x"),
        ({"x": torch.ones(3)}, r"x is \[2\] float32 in the first and \[3\] float32 in the second"),
        ({"x": torch.ones(2).half()}, r"x is \[2\] float32 in the first and \[2\] float16 in the second"),
    ],
)
def test_models_that_differ_are_refused_by_the_first_difference(b, said: str):
    with pytest.raises(ConfigError, match=said):
        interpolate({"x": torch.ones(2)}, b, 0.5)


@pytest.mark.parametrize("alpha", [-0.1, 1.1, float("nan")])
def test_a_share_out_of_range_is_refused(alpha: float):
    with pytest.raises(ConfigError, match="alpha is"):
        interpolate({}, {}, alpha)


def test_exports_are_mixed_from_the_command_line(exports, tmp_path: Path, capsys):
    a, b = exports
    assert main(["interpolate", str(a), str(b), "--alpha", "0", "0.5", "1", "--to", str(tmp_path / "mix")]) == 0
    assert "0.5 of" in capsys.readouterr().out
    for alpha, end in ((0, a), (1, b)):
        mixed = load_file(tmp_path / "mix" / f"alpha={alpha}" / "module.safetensors")
        assert bits(mixed) == bits(load_file(end / "module.safetensors"))
    half = tmp_path / "mix" / "alpha=0.5"
    expected = interpolate(random_encoder(0).state_dict(), random_encoder(1).state_dict(), 0.5)
    torch.testing.assert_close(dict(pretrained(half).state_dict()), expected)
    assert load_tokenizer(half)(["one two"])["tokens"].tolist() == load_tokenizer(a)(["one two"])["tokens"].tolist()
    assert main(["interpolate", str(a), str(b), "--alpha", "0.5", "--to", str(tmp_path / "one")]) == 0
    assert bits(load_file(tmp_path / "one" / "module.safetensors")) == bits(load_file(half / "module.safetensors"))


def test_exports_that_compute_otherwise_are_refused(exports, tmp_path: Path):
    a, _ = exports
    changed = {**CONFIG, "init_args": {**CONFIG["init_args"]}}
    changed["init_args"]["image_tower"] = {
        "class_path": "mmfound.models.ConvTower",
        "init_args": {"width": 4, "embed_dim": 8, "mean": [0.5, 0.5, 0.5]},
    }
    export(random_encoder(1), changed, tmp_path / "c")
    with pytest.raises(ConfigError, match=r"they differ in image_tower.init_args.mean \(None and \[0.5"):
        interpolate_exports(a, tmp_path / "c", 0.5, tmp_path / "out")
    export(random_encoder(1), CONFIG, tmp_path / "d", tokenizer=tokenizer("four five six", tmp_path / "bpe2"))
    with pytest.raises(ConfigError, match="different tokenizers"):
        interpolate_exports(a, tmp_path / "d", 0.5, tmp_path / "out")
    with pytest.raises(ConfigError, match="is one of the two models"):
        interpolate_exports(a, tmp_path / "d", 0.5, a)


def test_what_only_matters_in_training_may_differ(exports, tmp_path: Path):
    a, _ = exports
    changed = {**CONFIG, "init_args": {**CONFIG["init_args"], "init_temperature": 0.01}}
    export(random_encoder(1), changed, tmp_path / "e")
    interpolate_exports(a, tmp_path / "e", 0.5, tmp_path / "out")
    assert (tmp_path / "out" / "module.safetensors").is_file()


def test_a_command_without_a_share_says_what_is_missing(capsys):
    assert main(["interpolate", "a", "b", "--to", "c"]) == 2
    assert "--alpha" in capsys.readouterr().err


def test_of_several_shares_one_out_of_range_leaves_nothing_behind(exports, tmp_path: Path):
    a, b = exports
    assert main(["interpolate", str(a), str(b), "--alpha", "0.5", "1.5", "--to", str(tmp_path / "mix")]) == 2
    assert not (tmp_path / "mix").exists()
