"""GLIDE's released layouts: what they compute, what is read off their shapes, what is refused."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from mmfound.building import build
from mmfound.diffusion.conditioning import Condition
from mmfound.errors import ConfigError, DataError
from mmfound.interop import foreign
from mmfound.interop.glide import describe_glide, load_glide
from mmfound.models import GlideText
from mmfound.weights import load
from tests.parity import unets

WIDTH, HEADS, CONTEXT, VOCABULARY, EMBED_DIM, HEAD_DIM = 32, 2, 9, 40, 128, 16


def torch_layers(width: int = WIDTH, heads: int = HEADS, depth: int = 2) -> list[nn.TransformerEncoderLayer]:
    options = {"dropout": 0.0, "activation": "gelu", "batch_first": True, "norm_first": True}
    layers = [nn.TransformerEncoderLayer(width, heads, 4 * width, **options) for _ in range(depth)]
    for parameter in (parameter for layer in layers for parameter in layer.parameters()):
        nn.init.normal_(parameter, std=0.2)
    return layers


def released_text(
    layers: list[nn.TransformerEncoderLayer],
    vocab_size: int = VOCABULARY,
    context: int = CONTEXT,
    embed_dim: int = EMBED_DIM,
) -> dict[str, Tensor]:
    """A text transformer in OpenAI's layout, of torch's own layers."""
    width, heads = layers[0].norm1.normalized_shape[0], layers[0].self_attn.num_heads
    state: dict[str, Tensor] = {
        "token_embedding.weight": torch.randn(vocab_size, width),
        "positional_embedding": torch.randn(context, width),
        "padding_embedding": torch.randn(context, width),
        "transformer_proj.weight": torch.randn(embed_dim, width),
        "transformer_proj.bias": torch.randn(embed_dim),
        "final_ln.weight": torch.randn(width),
        "final_ln.bias": torch.randn(width),
    }
    for number, layer in enumerate(layers):
        block = f"transformer.resblocks.{number}"
        for ours, theirs in {
            "ln_1": layer.norm1,
            "ln_2": layer.norm2,
            "attn.c_proj": layer.self_attn.out_proj,
            "mlp.c_fc": layer.linear1,
            "mlp.c_proj": layer.linear2,
        }.items():
            state |= {f"{block}.{ours}.{kind}": value.detach() for kind, value in theirs.named_parameters()}
        for kind in ("weight", "bias"):
            parts = layer.self_attn.get_parameter(f"in_proj_{kind}").detach().chunk(3)
            starts = range(0, width, width // heads)
            rows = [part[start : start + width // heads] for start in starts for part in parts]
            state[f"{block}.attn.c_qkv.{kind}"] = torch.cat(rows)
    return state


@pytest.fixture(scope="module")
def theirs() -> unets.UNet2DConditionModel:
    return unets.drawn(unets.their_adm())  # pyright: ignore[reportReturnType]


def test_a_released_network_computes_what_diffusers_does(theirs: unets.UNet2DConditionModel, tmp_path: Path):
    torch.save(unets.as_released(theirs) | released_text(torch_layers()), tmp_path / "base.pt")
    glide = load_glide(tmp_path / "base.pt", head_dim=HEAD_DIM, text_heads=HEADS)
    x, time = torch.randn(2, 3, 16, 16), torch.tensor([3.0, 871.0])
    tokens, vector = torch.randn(2, 9, 32), torch.randn(2, EMBED_DIM)
    expected = theirs(x, time, tokens, class_labels=vector, return_dict=False)[0]
    found = glide.network.eval()(x, time, Condition(tokens, vector=vector))
    assert expected.std() > 0.01
    assert (found - expected).abs().max() < 1e-5 * expected.abs().max()
    assert glide.concat == ()


def test_a_released_text_computes_what_torch_s_layers_do(theirs: unets.UNet2DConditionModel, tmp_path: Path):
    layers = torch_layers()
    state = released_text(layers)
    torch.save(unets.as_released(theirs) | state, tmp_path / "base.pt")
    text = load_glide(tmp_path / "base.pt", head_dim=HEAD_DIM, text_heads=HEADS).text
    tokens, mask = torch.randint(VOCABULARY, (2, 5)), torch.arange(5) < torch.tensor([[5], [2]])
    x = state["padding_embedding"].repeat(2, 1, 1)
    for row, length in enumerate([5, 2]):
        x[row, :length] = (state["token_embedding.weight"][tokens[row]] + state["positional_embedding"][:5])[:length]
    for layer in layers:
        x = layer(x)
    x = nn.functional.layer_norm(x, [WIDTH], state["final_ln.weight"], state["final_ln.bias"])
    hidden, vector = text(tokens, mask)
    torch.testing.assert_close(hidden, x, rtol=1e-5, atol=1e-5)
    expected = nn.functional.linear(x[:, -1], state["transformer_proj.weight"], state["transformer_proj.bias"])
    torch.testing.assert_close(vector, expected, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize(
    ("upsampler", "parameters", "sizes", "concat"),
    [
        (
            False,
            385_030_726,
            {"multipliers": [1, 2, 3, 4], "blocks": 3, "attention_at": [2, 4, 8], "in_channels": 3},
            {3: [], 7: ["inpaint"]},
        ),
        (
            True,
            398_361_286,
            {"multipliers": [1, 1, 2, 2, 4, 4], "blocks": 2, "attention_at": [8, 16, 32], "in_channels": 6},
            {6: ["low_res"], 10: ["inpaint", "low_res"]},
        ),
    ],
    ids=["base", "upsampler"],
)
def test_released_sizes_are_read_off_the_shapes(upsampler: bool, parameters: int, sizes: dict, concat: dict):
    with torch.device("meta"):
        state = unets.as_released(unets.released_size(upsampler, in_channels=sizes["in_channels"]), head_dim=64)
        state |= released_text(torch_layers(512, 8, depth=16), vocab_size=50257, context=128, embed_dim=768)
        described = describe_glide(state, "base.pt")
        network, text = (build(described[part], "base.pt") for part in ("network", "text"))
    assert sum(value.numel() for module in (network, text) for value in module.parameters()) == parameters
    projection = sum(value.numel() for value in text.vector_proj.parameters())
    assert sum(value.numel() for value in text.parameters()) - projection == 76_301_824
    assert described["network"]["init_args"].items() >= {**sizes, "width": 192, "out_channels": 6}.items()
    for in_channels, expected in concat.items():
        state["input_blocks.0.0.weight"] = torch.empty(192, in_channels, 3, 3, device="meta")
        again = describe_glide(state, "base.pt")
        assert again["concat"] == expected
        assert again["network"]["init_args"]["in_channels"] == in_channels


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        ({"padding_embedding": None}, {}, "padding_embedding is missing"),
        ({"input_blocks.0.0.weight": None}, {}, "input_blocks.0.0.weight is missing; found token_embedding"),
        ({"input_blocks.0.0.weight": (32, 5, 3, 3)}, {}, r"takes 5 channels; GLIDE's take 3 \(base\)"),
        ({}, {"head_dim": 24}, "64 channels, which head_dim 24"),
        ({}, {"text_heads": 5}, "32 wide, and text_heads 5"),
    ],
)
def test_what_is_not_glide_is_refused(change: dict, options: dict, message: str):
    with torch.device("meta"):
        state = released_text(torch_layers()) | unets.as_released(unets.their_adm())
    for name, shape in change.items():
        state.pop(name)
        if shape is not None:
            state[name] = torch.empty(shape, device="meta")
    with pytest.raises(ConfigError, match=message):
        describe_glide(state, "base.pt", **{"head_dim": HEAD_DIM, "text_heads": HEADS, **options})


def test_a_file_that_lacks_weights_is_told(theirs: unets.UNet2DConditionModel, tmp_path: Path):
    state = unets.as_released(theirs) | released_text(torch_layers())
    torch.save({name: value for name, value in state.items() if "middle_block.2" not in name}, tmp_path / "base.pt")
    with pytest.raises(DataError, match=r"lacks middle.2.conv_1.bias \(10 missing"):
        load_glide(tmp_path / "base.pt", head_dim=HEAD_DIM, text_heads=HEADS)


class Holder(nn.Module):
    """A U-Net and a text transformer somewhere within, as in a stage."""

    def __init__(self) -> None:
        super().__init__()
        self.network = unets.our_adm()
        self.parts = nn.ModuleList([nn.ReLU(), GlideText(VOCABULARY, CONTEXT, WIDTH, 2, HEADS, EMBED_DIM)])


def test_a_recipe_s_parts_begin_with_released_weights(theirs: unets.UNet2DConditionModel, tmp_path: Path):
    torch.save(unets.as_released(theirs) | released_text(torch_layers()), tmp_path / "base.pt")
    assert foreign.is_known(tmp_path / "base.pt")
    holder = Holder()
    assert load(holder, foreign.weights_for(holder, tmp_path / "base.pt")) is None
    glide = load_glide(tmp_path / "base.pt", head_dim=HEAD_DIM, text_heads=HEADS)
    for mine, loaded in ((holder.network, glide.network), (holder.parts[1], glide.text)):
        for name, value in loaded.state_dict().items():
            assert torch.equal(mine.state_dict()[name], value), name
    with pytest.raises(ConfigError, match="the recipe's UNet has 0 GlideText"):
        foreign.weights_for(holder.network, tmp_path / "base.pt")
