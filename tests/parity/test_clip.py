"""Same embeddings as open_clip and transformers with the same random weights."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmfound.interop.openai import from_openai
from mmfound.interop.transformers import from_transformers
from mmfound.models import DualEncoder, TextTransformer
from mmfound.nn import NormalizePixels
from tests.models.towers import tiny_resnet, tiny_vit

VOCABULARY, CONTEXT, TEXT_WIDTH, DEPTH = 60, 16, 128, 3
TEXT = {"vocab_size": VOCABULARY, "context_length": CONTEXT, "width": TEXT_WIDTH, "heads": 2, "layers": DEPTH}
VISION = {
    "vit": {"layers": 2, "width": 128, "patch_size": 32, "image_size": 64},
    "resnet": {"layers": (1, 2, 1, 1), "width": 16, "image_size": 64},
}


def dual_encoder(kind: str) -> DualEncoder:
    text = TextTransformer(VOCABULARY, CONTEXT, TEXT_WIDTH, DEPTH, heads=2, embed_dim=32)
    return DualEncoder({"vit": tiny_vit, "resnet": tiny_resnet}[kind](), text).eval()


def randomize(model: nn.Module) -> None:
    """Give every weight a value that matters: zeros and ones of an initialisation would hide a missing one."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim < 2 and name.endswith("weight"):
                parameter.uniform_(0.5, 1.5)
            elif parameter.ndim < 2:
                parameter.normal_(std=0.1)


@torch.no_grad()
def measure_batch_statistics(encode_image: Callable[[Tensor], Tensor], model: nn.Module) -> None:
    """Set running means and variances to those of random images, as training would."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0
    model.train()
    encode_image(torch.randn(32, 3, 64, 64))
    model.eval()


def texts() -> tuple[Tensor, Tensor]:
    """Texts of 4, 9 and 16 tokens that end with the largest id, padded with zeros."""
    mask = torch.arange(CONTEXT) < torch.tensor([4, 9, 16])[:, None]
    tokens = torch.randint(1, VOCABULARY - 1, mask.shape) * mask
    tokens[torch.arange(3), mask.sum(dim=1) - 1] = VOCABULARY - 1
    return tokens, mask


def assert_same(ours: Tensor, theirs: Tensor, what: str) -> None:
    largest, error = theirs.abs().max().item(), (ours - theirs).abs().max().item()
    print(f"{what}: largest output {largest:.4f}, largest difference {error:.2e}")
    assert largest > 0.1, "an output near zero would agree with anything"
    assert (theirs[0] - theirs[1]).abs().max() > 0.01, "an output that ignores its input would agree with anything"
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", ["vit", "resnet"])
def test_both_towers_equal_open_clip(kind: str):
    open_clip = pytest.importorskip("open_clip")
    reference = open_clip.CLIP(32, vision_cfg=VISION[kind], text_cfg=TEXT, quick_gelu=True).eval()
    randomize(reference)
    measure_batch_statistics(reference.encode_image, reference)
    check(dual_encoder(kind), from_openai(reference.state_dict()), reference.encode_image, reference.encode_text)


def test_both_towers_equal_transformers():
    transformers = pytest.importorskip("transformers")
    text = {"vocab_size": VOCABULARY, "hidden_size": TEXT_WIDTH, "intermediate_size": 4 * TEXT_WIDTH}
    text |= {"num_hidden_layers": DEPTH, "num_attention_heads": 2, "max_position_embeddings": CONTEXT}
    text |= {"eos_token_id": VOCABULARY - 1, "bos_token_id": 1, "pad_token_id": 0}
    vision = {"hidden_size": 128, "intermediate_size": 512, "num_hidden_layers": 2, "num_attention_heads": 2}
    vision |= {"image_size": 64, "patch_size": 32}
    config = transformers.CLIPConfig(text_config=text, vision_config=vision, projection_dim=32)
    reference = transformers.CLIPModel(config).eval()
    randomize(reference)

    def image(pixels: Tensor) -> Tensor:
        return reference.visual_projection(reference.vision_model(pixel_values=pixels).pooler_output)

    def embedded_text(tokens: Tensor) -> Tensor:
        return reference.text_projection(reference.text_model(input_ids=tokens).pooler_output)

    check(dual_encoder("vit"), from_transformers(reference.state_dict()), image, embedded_text)


@torch.no_grad()
def check(
    encoder: DualEncoder,
    weights: dict[str, Tensor],
    encode_image: Callable[[Tensor], Tensor],
    encode_text: Callable[[Tensor], Tensor],
) -> None:
    encoder.load_state_dict(weights, strict=True)
    image = torch.rand(3, 3, 64, 64)
    tokens, mask = texts()
    theirs = encode_image(NormalizePixels()(image))
    assert_same(encoder.image_tower(image), theirs, "image tower")
    assert_same(encoder.embed_image(image), F.normalize(theirs, dim=1), "unit image embedding")
    theirs = encode_text(tokens)
    assert_same(encoder.text_tower(tokens, mask), theirs, "text tower")
    assert_same(encoder.text_tower(tokens[:2, :9], mask[:2, :9]), theirs[:2], "text tower, trimmed")


def test_every_weight_of_both_towers_gets_a_gradient():
    for kind in ("vit", "resnet"):
        encoder = dual_encoder(kind).train()
        randomize(encoder)
        tokens, mask = texts()
        product = encoder.embed_image(torch.rand(3, 3, 64, 64)) * encoder.embed_text(tokens, mask)
        product.square().sum().backward()
        missing = [name for name, p in encoder.named_parameters() if p.grad is None and name != "logit_scale"]
        assert not missing
