"""The U-Net: what a fresh one gives, what it is told, what is refused, precision, recomputation, compilation."""

import copy
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmfound.building import build
from mmfound.diffusion.conditioning import Condition
from mmfound.errors import ConfigError
from mmfound.models.unet import UNet
from mmfound.models.unet_parts import Additive, ByConvolution, ByPixel, Joint, ScaleShift, Spatial
from mmfound.nn.unet_blocks import GroupNorm
from mmfound.nn.unet_output import PixelOutput

ADM: dict[str, Any] = {"residual": ScaleShift(groups=8), "attention": Joint(token_width=12, head_dim=8)}
LDM: dict[str, Any] = {
    "residual": Additive(groups=8),
    "resample": ByConvolution(),
    "attention": Spatial(token_width=12, heads=2),
}
PIXELS: dict[str, Any] = {**ADM, "patch": 2, "attention_at": [4], "head": ByPixel(width=6)}
styles = pytest.mark.parametrize("style", [ADM, LDM, PIXELS], ids=["adm", "ldm", "pixels"])


def fresh(style: dict[str, Any] = ADM, **options: Any) -> UNet:
    return UNet(3, 6, 16, [1, 2], 1, **{"attention_at": [2], **style, **options})


def trained(style: dict[str, Any] = ADM, **options: Any) -> UNet:
    """With layers that are zero at the start drawn anew: without that most of the network has no say."""
    torch.manual_seed(0)
    unet = fresh(style, **options)
    for parameter in unet.parameters():
        nn.init.normal_(parameter, std=0.1)
    return unet


def inputs(dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor, Condition]:
    mask = torch.tensor([[True] * 5, [True, True, False, False, False]])
    x, tokens, vector = torch.randn(2, 3, 8, 12), torch.randn(2, 5, 12), torch.randn(2, 64)
    return x.to(dtype), torch.tensor([3.0, 700.0]), Condition(tokens.to(dtype), mask, vector.to(dtype))


@styles
def test_a_fresh_network_gives_exactly_zero(style: dict[str, Any]):
    x, time, condition = inputs()
    assert torch.equal(fresh(style)(x, time, condition), torch.zeros(2, 6, 8, 12))


@styles
def test_everything_it_is_told_counts(style: dict[str, Any]):
    unet = trained(style)
    x, time, c = inputs()
    out = unet(x, time, c)
    for other in (
        unet(x, time + 1, c),
        unet(x, time, Condition(c.tokens, None, c.vector)),
        unet(x, time, Condition(2 * c.tokens, c.mask, c.vector)),
        unet(x, time, Condition(c.tokens, c.mask)),
    ):
        assert (other - out).abs().max() > 1e-4 * out.abs().max()


@styles
def test_masked_tokens_do_not_count_and_none_at_all_is_finite(style: dict[str, Any]):
    unet = trained(style).double()
    x, time, c = inputs(torch.float64)
    changed = torch.where(c.mask[:, :, None], c.tokens, 100 * torch.randn(2, 5, 12).double())
    torch.testing.assert_close(unet(x, time, Condition(changed, c.mask)), unet(x, time, Condition(c.tokens, c.mask)))
    cut = unet(x[1:], time[1:], Condition(c.tokens[1:, :2]))
    torch.testing.assert_close(unet(x, time, Condition(c.tokens, c.mask))[1:], cut)
    nothing = unet(x, time, Condition(c.tokens, torch.zeros_like(c.mask)))
    assert nothing.isfinite().all()
    torch.testing.assert_close(nothing, unet(x, time, Condition(changed, torch.zeros_like(c.mask))))


def test_no_token_at_all_is_finite_where_kernels_divide_by_zero(monkeypatch: pytest.MonkeyPatch):
    def plain(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None) -> Tensor:
        weights = query @ key.transpose(2, 3) * query.shape[3] ** -0.5
        return (weights if mask is None else weights.masked_fill(~mask, float("-inf"))).softmax(dim=3) @ value

    unet = trained(LDM).double()
    x, time, c = inputs(torch.float64)
    nothing = Condition(c.tokens, torch.zeros_like(c.mask))
    expected = unet(x, time, nothing)
    monkeypatch.setattr(F, "scaled_dot_product_attention", plain)
    torch.testing.assert_close(unet(x, time, nothing), expected)


def test_one_time_is_that_time_for_each_sample():
    unet = trained()
    x, _, condition = inputs()
    torch.testing.assert_close(unet(x, torch.tensor(7.0), condition), unet(x, torch.tensor([7.0, 7.0]), condition))


def test_vector_is_added_to_the_time_embedding():
    unet = trained(attention=None, attention_at=[])
    x, time, c = inputs()
    out = unet(x, time, Condition(vector=c.vector[:1].expand(2, -1)))
    unet.time[2].bias.data += c.vector[0]
    torch.testing.assert_close(out, unet(x, time, Condition()))


def test_concat_is_more_channels_behind_x():
    unet = trained(attention=None, attention_at=[])
    both = torch.randn(2, 3, 8, 8)
    split = unet(both[:, :1], torch.tensor(3.0), Condition(concat=both[:, 1:]))
    torch.testing.assert_close(split, unet(both, torch.tensor(3.0), Condition()))


@pytest.mark.parametrize("style", [ADM, LDM], ids=["adm", "ldm"])
def test_patches_are_the_network_on_folded_pixels(style: dict[str, Any]):
    patched, plain = trained(style, patch=2, attention_at=[4]), UNet(12, 24, 16, [1, 2], 1, **style, attention_at=[2])
    state = patched.state_dict()
    folded = state["stem.weight"].unflatten(2, (3, 2)).unflatten(4, (3, 2))  # [W, C, 3, 2, 3, 2]
    plain.load_state_dict({**state, "stem.weight": folded.permute(0, 1, 3, 5, 2, 4).flatten(1, 3)})
    x, time, condition = inputs()
    out = plain(F.pixel_unshuffle(x, 2), time, condition)
    torch.testing.assert_close(patched(x, time, condition), F.pixel_shuffle(out, 2), rtol=1e-5, atol=1e-5)
    assert patched.factor == 4


def test_pixels_of_a_patch_meet_those_beyond_it():
    unet = trained(PIXELS)
    nn.init.zeros_(unet.out.unfold.weight)  # pyright: ignore - what the levels say is shut out
    x, time, condition = inputs()
    x.requires_grad_()
    unet(x, time, condition)[0, 0, 4, 5].backward()
    assert x.grad is not None
    met = x.grad[0].abs().sum(0) > 0
    assert met[2:7, 3:8].all()  # two convolutions of 3 x 3
    assert int(met.sum()) == 25


def test_what_the_levels_say_reaches_its_own_patch():
    unet = trained(PIXELS)
    made = PixelOutput(16, 3, 6, 2, 6)
    made.load_state_dict(unet.out.state_dict())
    h, x = torch.randn(1, 16, 4, 4), torch.randn(1, 3, 8, 8)
    made.mix.weight.data[:, :3] = 0  # x is shut out
    whole = made(h, x)
    assert torch.equal(whole, made(h, torch.zeros_like(x)))
    unfolded = made.unfold(h).unflatten(1, (6, 2, 2)).permute(0, 1, 4, 2, 5, 3).flatten(4, 5).flatten(2, 3)
    expected = made.last(F.silu(F.conv2d(unfolded, made.mix.weight[:, 3:], made.mix.bias, padding=1)))
    torch.testing.assert_close(whole, expected)


@styles
def test_recomputing_gives_the_same_gradients_dropout_included(style: dict[str, Any]):
    kept = trained({**style, "residual": type(style["residual"])(dropout=0.3, groups=8)}).double()
    again = copy.deepcopy(kept)
    again.recompute = True
    x, time, condition = inputs(torch.float64)
    for unet in (kept, again):
        torch.manual_seed(5)
        unet(x, time, condition).square().sum().backward()
    for (name, mine), other in zip(kept.named_parameters(), again.parameters(), strict=True):
        torch.testing.assert_close(other.grad, mine.grad, msg=name)


def test_recomputing_keeps_fewer_tensors():
    def kept(recompute: bool) -> int:
        sizes: list[int] = []
        unet = trained(recompute=recompute)
        with torch.autograd.graph.saved_tensors_hooks(lambda t: sizes.append(t.numel()) or t, lambda t: t):
            unet(*inputs())
        return sum(sizes)

    assert kept(True) < kept(False) / 2


def test_dropout_acts_in_training_alone():
    unet = trained(residual=ScaleShift(dropout=0.5, groups=8))
    assert not torch.equal(unet(*(args := inputs())), unet(*args))
    unet.eval()
    assert torch.equal(unet(*args), unet(*args))


@styles
def test_bfloat16_autocast_gives_float32_near_the_exact_output(style: dict[str, Any]):
    unet = trained(style)
    args = inputs()
    exact = unet(*args)
    with torch.autocast("cpu", torch.bfloat16):
        mixed = unet(*args)
    assert mixed.dtype == torch.float32
    assert 0 < (mixed - exact).norm() / exact.norm() < 0.05


def test_norms_are_computed_in_float32_under_autocast():
    norm = GroupNorm(2, 8)
    x = (200 + torch.randn(2, 8, 16, 16)).bfloat16()
    nn.init.normal_(norm.weight)
    with torch.autocast("cpu", torch.bfloat16):
        found = norm(x)
    assert found.dtype == torch.bfloat16
    expected = F.group_norm(x.double(), 2, norm.weight.double(), norm.bias.double())
    torch.testing.assert_close(found.double(), expected, rtol=2**-8, atol=1e-4)
    assert norm.to("meta")(x.to("meta")).dtype == torch.bfloat16  # the way of other devices


def test_the_last_convolution_is_computed_in_float32_under_autocast():
    with torch.autocast("cpu", torch.bfloat16):
        out = trained()(*inputs())
    assert (out.bfloat16().float() - out).abs().max() > 0


@styles
def test_networks_cast_to_bfloat16_run_on_float32_input(style: dict[str, Any]):
    unet = trained(style)
    args = inputs()
    exact, cast = unet(*args), unet.bfloat16()(*args)
    assert cast.dtype == torch.float32
    assert (cast - exact).norm() / exact.norm() < 0.05


@styles
def test_compiles_without_a_graph_break(style: dict[str, Any]):
    unet = trained(style)
    args = inputs()
    compiled = torch.compile(unet, fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(*args), unet(*args))


@styles
def test_memory_format_does_not_change_values(style: dict[str, Any]):
    unet = trained(style).double()
    x, time, condition = inputs(torch.float64)
    expected = unet(x, time, condition)
    last = unet.to(memory_format=torch.channels_last)
    torch.testing.assert_close(last(x.to(memory_format=torch.channels_last), time, condition), expected)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"attention": Joint(token_width=12, head_dim=24)}, "head_dim is 24.* the 32 channels"),
        ({"attention": Spatial(token_width=12, heads=3)}, "heads is 3.* the 32 channels"),
        ({"residual": ScaleShift()}, "groups is 32.* the 16 channels"),
        ({"attention_at": [4]}, r"attention_at has 4.*\[1, 2\]"),
        ({"attention_at": [1], "patch": 2}, r"attention_at has 1.*\[2, 4\]"),
        ({"patch": 0}, "patch is 0"),
        ({"head": ByPixel(width=0)}, "ByPixel: width is 0"),
        ({"attention": None}, r"attention_at is \[2\], and no kind"),
    ],
)
def test_sizes_that_do_not_fit_are_named(options: dict[str, Any], message: str):
    with pytest.raises(ConfigError, match=message):
        fresh(**options)


def test_heads_are_said_in_one_way():
    with pytest.raises(ConfigError, match="heads is 2 and head_dim is 8"):
        Spatial(token_width=12, heads=2, head_dim=8)


@pytest.mark.parametrize(
    ("unet", "x", "condition", "message"),
    [
        (fresh(), torch.zeros(1, 3, 9, 8), Condition(), "1/2 of their side, and 2 does not divide 9 x 8"),
        (fresh(), torch.zeros(1, 3, 8, 8), Condition(), "width 12, and the condition has none"),
        (fresh(), torch.zeros(1, 3, 8, 8), Condition(torch.zeros(1, 2, 5)), "width 12, and the condition has some of"),
        (
            fresh(attention=Joint(head_dim=8)),
            torch.zeros(1, 3, 8, 8),
            Condition(torch.zeros(1, 2, 5)),
            "tokens of width 5, and this U-Net attends to none",
        ),
        (fresh(), torch.zeros(1, 3, 8, 8), Condition(concat=torch.zeros(1, 4, 8, 8)), "in_channels is 3.* adds 4"),
        (fresh(), torch.zeros(1, 3, 8, 8), Condition(vector=torch.zeros(1, 5)), "vector is 5 wide.* 64"),
    ],
)
def test_input_that_does_not_fit_is_named(unet: UNet, x: Tensor, condition: Condition, message: str):
    with pytest.raises(ConfigError, match=message):
        unet(x, torch.tensor(1.0), condition)


@pytest.mark.parametrize(
    "parts",
    [
        {
            "residual": {"class_path": "mmfound.models.unet_parts.ScaleShift", "init_args": {"groups": 8}},
            "resample": {"class_path": "mmfound.models.unet_parts.InBlocks"},
            "attention": {
                "class_path": "mmfound.models.unet_parts.Joint",
                "init_args": {"token_width": 12, "head_dim": 8},
            },
        },
        {
            "residual": {"class_path": "mmfound.models.unet_parts.Additive", "init_args": {"groups": 8}},
            "resample": {"class_path": "mmfound.models.unet_parts.ByConvolution"},
            "attention": {
                "class_path": "mmfound.models.unet_parts.Spatial",
                "init_args": {"token_width": 12, "heads": 2},
            },
        },
    ],
)
def test_an_export_can_describe_it(parts: dict[str, Any]):
    sizes = {"in_channels": 3, "out_channels": 6, "width": 16, "multipliers": [1, 2], "blocks": 1, "attention_at": [2]}
    built = build({"class_path": "mmfound.models.UNet", "init_args": {**sizes, **parts}}, "module.yaml")
    style = ADM if "ScaleShift" in str(parts) else LDM
    assert {name: p.shape for name, p in built.named_parameters()} == {
        name: p.shape for name, p in fresh(style).named_parameters()
    }
