"""Learning rates by layer and by name."""

import pytest
import timm
import torch
from timm.optim import param_groups_layer_decay

from mmfound.errors import ConfigError
from mmfound.models import Cbow, ConvTower, DualEncoder, TextTransformer, TimmTower
from mmfound.optim import Constant, Optim
from mmfound.rates import LayerDecay, Layered, RateTable

TINY = {"embed_dim": 32, "depth": 3, "num_heads": 2, "patch_size": 16, "img_size": 32}


def encoder(depth: int = 2) -> DualEncoder:
    return DualEncoder(ConvTower(4, 8), TextTransformer(20, 8, width=16, depth=depth, heads=2, embed_dim=8))


def built(model: torch.nn.Module, rates, lr: float = 0.1) -> dict[str, tuple[float, float]]:
    """Learning rate and weight decay by name, after the first scheduled step."""
    optim = Optim(lambda groups: torch.optim.AdamW(groups, lr=lr, weight_decay=0.05), Constant(), rates=rates)
    groups = optim.build(model, 10)["optimizer"].param_groups
    of = {id(p): (group["lr"], group["weight_decay"]) for group in groups for p in group["params"]}
    assert len(of) == sum(len(group["params"]) for group in groups), "a parameter in two groups"
    return {name: of[id(p)] for name, p in model.named_parameters() if p.requires_grad}


@pytest.mark.parametrize("name", ["vit_base_patch16_224", "vit_base_patch16_clip_quickgelu_224"])
def test_rates_of_a_vit_are_timms(name: str):
    tower = TimmTower(name, 8, options=TINY)
    model = timm.create_model(name, num_classes=8, **TINY)
    model.head.register_parameter("bias", None)
    theirs = {}
    names = {id(p): n for n, p in model.named_parameters()}
    for group in param_groups_layer_decay(model, weight_decay=0.05, layer_decay=0.65):
        theirs |= {names[id(p)]: (group["lr_scale"], group["weight_decay"]) for p in group["params"]}
    wrapped = torch.nn.ModuleDict({"tower": tower})
    ours = built(wrapped, LayerDecay({"tower": 0.65}), lr=1.0)
    assert len(theirs) > 40
    for name, expected in theirs.items():
        assert ours[f"tower.model.{name}"] == pytest.approx(expected), name
    assert len({rate for rate, _ in ours.values()}) == 5, "embedding, three blocks, head"


def test_rates_of_a_text_tower_by_hand():
    model = encoder()
    found = {name: rate for name, (rate, _) in built(model, LayerDecay({"text_tower": 0.5}), lr=1.0).items()}
    assert found["text_tower.text_projection"] == 1.0
    assert found["text_tower.ln_final.weight"] == found["text_tower.blocks.1.ln_1.weight"] == 0.5
    assert {rate for name, rate in found.items() if ".blocks.0." in name} == {0.25}
    assert found["text_tower.token_embedding.weight"] == found["text_tower.positional_embedding"] == 0.125
    assert {rate for name, rate in found.items() if not name.startswith("text_tower")} == {1.0}


@pytest.mark.parametrize(
    "tower",
    [ConvTower(4, 8), Cbow(20, 8, 8), TimmTower("resnet10t", 8), encoder().text_tower],
    ids=lambda t: type(t).__name__,
)
def test_every_parameter_of_every_tower_has_a_depth(tower):
    assert isinstance(tower, Layered)
    depths = tower.depths()
    assert depths.keys() == {name for name, _ in tower.named_parameters()}
    assert min(depths.values()) == 0
    assert sorted(set(depths.values())) == list(range(max(depths.values()) + 1))


def test_decay_and_schedule_hold_in_every_group_and_the_first_has_the_full_rate():
    model = encoder()
    optim = Optim(
        lambda groups: torch.optim.AdamW(groups, lr=0.1),
        Constant(warmup_steps=4),
        rates=LayerDecay({"text_tower": 0.5}),
    )
    made = optim.build(model, 10)
    rates = [group["lr"] for group in made["optimizer"].param_groups]
    assert rates[0] == pytest.approx(0.1 / 4)
    assert min(rates) == pytest.approx(0.1 / 4 / 8)
    assert built(model, LayerDecay({"text_tower": 0.5}))["logit_scale"] == (0.1, 0.0)


def test_without_rates_there_are_two_groups_as_before():
    optim = Optim(lambda groups: torch.optim.AdamW(groups, lr=0.1), Constant())
    assert [set(group) for group in optim.groups(encoder())] == [{"params"}, {"params", "weight_decay"}]


def test_freezing_a_layer_changes_no_other_rate():
    model = encoder()
    before = built(model, LayerDecay({"text_tower": 0.5}))
    model.text_tower.text_projection.requires_grad_(False)
    after = built(model, LayerDecay({"text_tower": 0.5}))
    assert after == {name: rate for name, rate in before.items() if name != "text_tower.text_projection"}


def test_a_table_multiplies_by_name():
    found = built(encoder(), RateTable({"image_tower.*": 0.1, "(text_tower|logit_scale).*": 2.0}))
    assert found["image_tower.head.weight"] == pytest.approx((0.01, 0.05))
    assert found["logit_scale"] == pytest.approx((0.2, 0.0))


@pytest.mark.parametrize(
    ("rates", "said"),
    [
        (lambda: RateTable({"image_tower.*": 1.0}), "logit_scale matches no pattern"),
        (lambda: RateTable({".*": 1.0, "logit.*": 1.0}), r"logit_scale matches '.\*' and 'logit.\*'"),
        (lambda: RateTable({".*": 1.0, "image_towr.*": 1.0}), r"'image_towr.\*' matches no .* nearest: image_tower"),
        (lambda: RateTable({".*": 0.0}), "use Freeze"),
        (lambda: RateTable({"(": 1.0}), "no regular expression"),
        (lambda: LayerDecay({"text_tower": 1.5}), "text_tower: 1.5"),
        (lambda: LayerDecay({"tower": 0.5}), "tower: there is none; there are image_tower, text_tower"),
        (lambda: LayerDecay({"text_tower.ln_final": 0.5}), "LayerNorm does not know its layers"),
    ],
)
def test_mistakes_are_named(rates, said: str):
    with pytest.raises(ConfigError, match=said):
        rates()(encoder())
