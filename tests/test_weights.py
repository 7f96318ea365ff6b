import os
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch import nn

from mmfound.building import expand
from mmfound.errors import ConfigError, DataError
from mmfound.models import Cbow, ConvTower, DualEncoder
from mmfound.weights import describe, export, pretrained

CONFIG: dict[str, Any] = {
    "class_path": "mmfound.models.DualEncoder",
    "init_args": {
        "image_tower": {"class_path": "mmfound.models.ConvTower", "init_args": {"width": 4, "embed_dim": 8}},
        "text_tower": {
            "class_path": "mmfound.models.Cbow",
            "init_args": {"vocab_size": 16, "width": 8, "embed_dim": 8},
        },
    },
}


def encoder() -> DualEncoder:
    return DualEncoder(ConvTower(width=4, embed_dim=8), Cbow(vocab_size=16, width=8, embed_dim=8))


@pytest.fixture
def exported(tmp_path: Path) -> Path:
    export(encoder(), CONFIG, tmp_path / "export", image={"size": 32, "mean": (0.5, 0.5, 0.5)})
    return tmp_path / "export"


def rewrite(folder: Path, **changes: Any) -> None:
    (folder / "module.yaml").write_text(yaml.safe_dump({**describe(folder), **changes}))


def test_a_module_comes_back_with_equal_weights_and_outputs(tmp_path: Path):
    module = encoder().eval()
    export(module, CONFIG, tmp_path / "export")
    again = pretrained(tmp_path / "export")
    torch.testing.assert_close(again.state_dict(), module.state_dict(), rtol=0, atol=0)
    image = torch.rand(2, 3, 32, 32)
    torch.testing.assert_close(again.embed_image(image), module.embed_image(image), rtol=0, atol=0)  # pyright: ignore


def test_the_temperature_is_exported_without_dimensions_and_comes_back_with_one(exported: Path):
    from safetensors.torch import load_file

    assert load_file(exported / "module.safetensors")["logit_scale"].shape == ()
    assert pretrained(exported).logit_scale.shape == (1,)


def test_a_part_is_built_and_read_alone(exported: Path):
    rewrite(exported, init_args={**describe(exported)["init_args"], "text_tower": {"class_path": "nowhere.Tower"}})
    tower = pretrained(exported, part="image_tower")
    assert isinstance(tower, ConvTower)


def test_a_frozen_module_stays_in_eval_mode_and_without_gradients(exported: Path):
    parent = nn.Sequential(pretrained(exported), nn.Dropout()).train()
    assert parent[1].training
    assert not any(module.training for module in parent[0].modules())
    assert not any(p.requires_grad for p in parent[0].parameters())
    thawed = pretrained(exported, frozen=False)
    assert thawed.training
    assert all(p.requires_grad for p in thawed.parameters())


def test_an_export_tells_what_pictures_it_takes(exported: Path):
    assert describe(exported)["image"] == {"size": 32, "mean": [0.5, 0.5, 0.5]}


def test_exporting_again_replaces_the_old_one_and_leaves_nothing_else(exported: Path):
    module = encoder()
    export(module, CONFIG, exported)
    assert torch.equal(pretrained(exported).get_parameter("logit_scale"), module.logit_scale)
    assert [path.name for path in exported.parent.iterdir()] == ["export"]


def test_a_failed_export_leaves_the_old_one(exported: Path):
    class Full:
        def save(self, folder: Path) -> None:
            raise OSError(28, "No space left on device")

    before = (exported / "module.safetensors").read_bytes()
    with pytest.raises(Exception, match="no room to write the export"):
        export(encoder(), CONFIG, exported, tokenizer=Full())
    assert (exported / "module.safetensors").read_bytes() == before
    assert [path.name for path in exported.parent.iterdir()] == ["export"]


def test_a_folder_with_other_things_is_not_replaced(tmp_path: Path):
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(ConfigError, match="holds something else"):
        export(encoder(), CONFIG, tmp_path)


def test_a_missing_export_is_named_with_what_makes_it(tmp_path: Path):
    with pytest.raises(ConfigError, match="no exported module in .*1_clip/export.* Train it first"):
        pretrained(tmp_path / "runs/unclip/1_clip/export")


def test_an_unknown_part_is_answered_with_those_there_are(exported: Path):
    with pytest.raises(ConfigError, match=r"has no part 'tower'; .* has \['image_tower', 'text_tower'\]"):
        pretrained(exported, part="tower")


def test_truncated_weights_are_named(exported: Path):
    path = exported / "module.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(DataError, match="module.safetensors is damaged"):
        pretrained(exported)


def test_missing_weights_are_named(exported: Path):
    (exported / "module.safetensors").unlink()
    with pytest.raises(DataError, match="module.safetensors is missing"):
        pretrained(exported)


def test_weights_of_another_shape_are_named(exported: Path):
    config = describe(exported)
    config["init_args"]["text_tower"]["init_args"]["vocab_size"] = 99
    rewrite(exported, **config)
    with pytest.raises(DataError, match=r"has text_tower\.token_embedding\.weight as \[16, 8\], not \[99, 8\]"):
        pretrained(exported)


def test_a_damaged_description_is_named(exported: Path):
    (exported / "module.yaml").write_text("class_path: [")
    with pytest.raises(ConfigError, match="module.yaml is damaged"):
        pretrained(exported)


@pytest.mark.parametrize("path", ["os.system", "subprocess.Popen", "builtins.eval", "timmy.Net", "torch.hub.load"])
def test_foreign_classes_are_refused(exported: Path, path: str):
    rewrite(exported, class_path=path, init_args={})
    with pytest.raises(ConfigError, match="could run any code"):
        pretrained(exported)


@pytest.mark.parametrize(
    "path", ["mmfound.weights.pretrained", "mmfound.errors.UserError", "mmfound.weights.shutil", "timm.list_models"]
)
def test_what_is_no_network_is_refused_even_from_trusted_packages(exported: Path, path: str):
    rewrite(exported, class_path=path, init_args={})
    with pytest.raises(ConfigError, match="is no network"):
        pretrained(exported)


def test_a_foreign_class_deep_inside_is_refused(exported: Path):
    layers = [{"class_path": "torch.nn.ReLU"}, {"class_path": "posixpath.join"}]
    rewrite(exported, class_path="torch.nn.ModuleList", init_args={"modules": layers})
    with pytest.raises(ConfigError, match=r"posixpath\.join"):
        pretrained(exported)


def test_arguments_that_make_timm_unpickle_are_refused(exported: Path):
    options = {"name": "resnet18", "embed_dim": 8, "options": {"checkpoint_path": "weights.pth"}}
    rewrite(exported, class_path="mmfound.models.TimmTower", init_args=options)
    with pytest.raises(ConfigError, match="sets checkpoint_path: weights.pth"):
        pretrained(exported)


def test_trust_allows_other_classes(exported: Path):
    rewrite(exported, class_path="types.SimpleNamespace", init_args={})
    with pytest.raises(ConfigError, match="describes a SimpleNamespace, which is no module"):
        pretrained(exported, trust=True)


def test_pickled_weights_are_not_opened(exported: Path, tmp_path: Path):
    class Bomb:
        def __reduce__(self) -> Any:
            return os.mkdir, (str(tmp_path / "exploded"),)

    (exported / "module.safetensors").write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(DataError, match="damaged"):
        pretrained(exported)
    assert not (tmp_path / "exploded").exists()


def test_a_part_that_was_pretrained_itself_is_written_out(exported: Path):
    arguments = {"folder": str(exported), "part": "image_tower"}
    tower = {"class_path": "mmfound.weights.pretrained", "init_args": arguments}
    wrapped = {"class_path": "torch.nn.Sequential", "init_args": {"tower": tower}}
    assert expand(wrapped, describe)["init_args"]["tower"] == CONFIG["init_args"]["image_tower"]


def test_tied_weights_can_be_exported(tmp_path: Path):
    module = nn.Sequential(nn.Linear(3, 3, bias=False), nn.Linear(3, 3, bias=False))
    module[1].weight = module[0].weight  # pyright: ignore[reportAttributeAccessIssue]
    export(module, {"class_path": "torch.nn.Identity"}, tmp_path / "export")
