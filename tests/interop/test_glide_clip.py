"""The released layout of GLIDE's noised CLIP, with random weights: the formulas of its code, written out by name."""

import math
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from mmfound import weights
from mmfound.diffusion import CosineBetas, DiscreteSchedule
from mmfound.encoders import load_encoder, picture_of, tokenizer_of
from mmfound.errors import ConfigError
from mmfound.models import DualEncoder
from mmfound.text import ClipBpe

SIZE, PATCH, IMAGE, TEXT, EMBED, VOCABULARY, CONTEXT, DEPTH = 16, 4, 128, 64, 32, 600, 12, 2
MEAN, STD = (122.77093945, 116.74601272, 104.09373519), (68.50053285, 66.63215831, 70.32316309)  # of 0..255
State = dict[str, Tensor]


def _blocks(width: int) -> State:
    state: State = {}
    for number in range(DEPTH):
        attention, mlp = f"blocks.block_{number}.f_attn.", f"blocks.block_{number}.f_mlp."
        for norm in (attention, mlp):
            state |= {f"{norm}ln.g": 1 + torch.randn(width) / 4, f"{norm}ln.b": torch.randn(width) / 4}
        for part in "qkvc":
            state[f"{attention}f_{part}.w"] = torch.randn(width, width) / width**0.5
        state |= {f"{attention}f_{part}.b": torch.randn(width) for part in "qvc"}  # none for keys
        state[f"{mlp}f_1.w"], state[f"{mlp}f_1.b"] = torch.randn(4 * width, width) / width**0.5, torch.randn(4 * width)
        state[f"{mlp}f_2.w"], state[f"{mlp}f_2.b"] = torch.randn(width, 4 * width) / width**0.5, torch.randn(width)
    state |= {"blocks.output.ln.g": 1 + torch.randn(width) / 4, "blocks.output.ln.b": torch.randn(width) / 4}
    return state | {"blocks.output.f.w": torch.randn(EMBED, width)}


def image_state() -> State:
    state = _blocks(IMAGE) | {"blocks.input.w_t": torch.randn(1000, IMAGE)}
    state |= {"blocks.input.patch_proj": torch.randn(IMAGE, 3, PATCH, PATCH) / 7}
    state |= {"blocks.input.w_pos": torch.randn(1 + (SIZE // PATCH) ** 2, IMAGE)}
    return state | {"blocks.input.ln.g": 1 + torch.randn(IMAGE) / 4, "blocks.input.ln.b": torch.randn(IMAGE) / 4}


def text_state() -> State:
    return _blocks(TEXT) | {
        "blocks.input.w_voc": torch.randn(VOCABULARY, TEXT),
        "blocks.input.w_pos": torch.randn(CONTEXT, TEXT),
    }


def _norm(x: Tensor, state: State, name: str) -> Tensor:
    return F.layer_norm(x, x.shape[-1:], state[f"{name}.g"], state[f"{name}.b"], 1e-5)


def _through(x: Tensor, state: State, allowed: Tensor | None) -> Tensor:
    for number in range(DEPTH):
        attention, mlp = f"blocks.block_{number}.f_attn", f"blocks.block_{number}.f_mlp"
        normed = _norm(x, state, f"{attention}.ln")
        biases = {part: state.get(f"{attention}.f_{part}.b") for part in "qkv"}
        q, k, v = (F.linear(normed, state[f"{attention}.f_{p}.w"], biases[p]).unflatten(-1, (-1, 64)) for p in "qkv")
        logits = torch.einsum("bqhd,bkhd->bhqk", q, k) / 8
        logits = logits if allowed is None else logits.masked_fill(~allowed, -math.inf)
        mixed = torch.einsum("bhqk,bkhd->bqhd", logits.softmax(dim=-1), v).flatten(2)
        x = x + F.linear(mixed, state[f"{attention}.f_c.w"], state[f"{attention}.f_c.b"])
        hidden = F.linear(_norm(x, state, f"{mlp}.ln"), state[f"{mlp}.f_1.w"], state[f"{mlp}.f_1.b"])
        hidden = hidden * (1 + torch.erf(hidden / math.sqrt(2))) / 2
        x = x + F.linear(hidden, state[f"{mlp}.f_2.w"], state[f"{mlp}.f_2.b"])
    return x


def embed_image(state: State, x_t: Tensor, time: Tensor) -> Tensor:
    pixels = ((x_t + 1) * 127.5 - torch.tensor(MEAN)[:, None, None]) / torch.tensor(STD)[:, None, None]
    patches = F.unfold(pixels.to(x_t), PATCH, stride=PATCH).transpose(1, 2)
    x = patches @ state["blocks.input.patch_proj"].flatten(1).T
    x = torch.cat([state["blocks.input.w_t"][time][:, None], x], dim=1) + state["blocks.input.w_pos"]
    x = _through(_norm(x, state, "blocks.input.ln"), state, None)
    return F.normalize(_norm(x[:, 0], state, "blocks.output.ln") @ state["blocks.output.f.w"].T, dim=1)


def embed_text(state: State, tokens: Tensor, lengths: Tensor) -> Tensor:
    x = state["blocks.input.w_voc"][tokens] + state["blocks.input.w_pos"]
    x = _through(x, state, torch.ones(CONTEXT, CONTEXT, dtype=torch.bool).tril())
    last = x[torch.arange(len(tokens)), lengths - 1]
    return F.normalize(_norm(last, state, "blocks.output.ln") @ state["blocks.output.f.w"].T, dim=1)


def double(state: State) -> State:
    return {name: value.double() for name, value in state.items()}


@pytest.fixture
def released(tmp_path: Path) -> tuple[Path, State, State]:
    """The folder with both files, and what is in them."""
    image, text = image_state(), text_state()
    torch.save(image, tmp_path / "clip_image_enc.pt")
    torch.save(text, tmp_path / "clip_text_enc.pt")
    torch.save({"out.2.weight": torch.zeros(2)}, tmp_path / "base.pt")  # which lies there too
    return tmp_path, image, text


@torch.no_grad()
@pytest.mark.parametrize("named", ["", "clip_image_enc.pt", "clip_text_enc.pt"])
def test_both_towers_equal_the_released_formulas(named: str, released: tuple[Path, State, State]):
    folder, image, text = released
    encoder = weights.pretrained(folder / named).double()
    assert isinstance(encoder, DualEncoder)
    x_t, time = torch.randn(4, 3, SIZE, SIZE), torch.tensor([0, 1, 640, 999])
    level = DiscreteSchedule(CosineBetas()).level(time)
    expected = embed_image(double(image), x_t.double(), time)
    torch.testing.assert_close(encoder.embed_noised(x_t, level), expected, rtol=0, atol=2e-6)  # pixels are float32
    tokens, lengths = torch.randint(VOCABULARY, (3, CONTEXT)), torch.tensor([2, 7, CONTEXT])
    mask = torch.arange(CONTEXT) < lengths[:, None]
    expected = embed_text(double(text), tokens, lengths)
    torch.testing.assert_close(encoder.embed_text(tokens, mask), expected, rtol=0, atol=1e-12)
    torch.testing.assert_close(encoder.embed_text(tokens[:2, :8], mask[:2, :8]), expected[:2], rtol=0, atol=1e-12)
    assert encoder.logit_scale.exp().item() == pytest.approx(100.0, rel=1e-6)


def test_one_tower_alone_asks_for_the_other(released: tuple[Path, State, State]):
    folder, _, _ = released
    (folder / "clip_text_enc.pt").unlink()
    for named in (folder, folder / "clip_image_enc.pt"):
        with pytest.raises(ConfigError, match=r"one tower .* lacks clip_text_enc\.pt"):
            weights.pretrained(named)


def test_weights_that_are_missing_are_named(released: tuple[Path, State, State]):
    folder, image, _ = released
    torch.save({k: v for k, v in image.items() if k != "blocks.block_1.f_attn.f_v.b"}, folder / "clip_image_enc.pt")
    with pytest.raises(ConfigError, match=r"lacks image_tower\.tower\.blocks\.1\.attn\.in_proj\.bias"):
        weights.pretrained(folder)


def test_it_says_its_pictures_and_reads_texts_with_clip_s_vocabulary(released: tuple[Path, State, State]):
    pytest.importorskip("open_clip")
    folder, _, _ = released
    assert picture_of(folder).size == SIZE
    tokenizer = tokenizer_of(folder)
    assert isinstance(tokenizer, ClipBpe)
    assert tokenizer.context == CONTEXT
    with pytest.raises(ConfigError, match="takes pictures of 16 pixels; leave image_size 32 out"):
        weights.pretrained(folder, image_size=32)


def test_without_a_vocabulary_it_loads_and_only_prompts_are_refused(
    released: tuple[Path, State, State], monkeypatch: pytest.MonkeyPatch
):
    folder, _, _ = released

    def missing(*_: object) -> Path:
        raise ConfigError("no vocabulary here; give its path")

    monkeypatch.setattr("mmfound.text.clip_bpe.open_clip_file", missing)
    assert load_encoder(folder).tokenizer is None
    with pytest.raises(ConfigError, match="give its path"):
        tokenizer_of(folder)
