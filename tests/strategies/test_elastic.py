"""A run that goes from one rank to two and back is the run that stays on one."""

import json
from pathlib import Path

import pytest
import torch

from tests.strategies.fits import Fit, fit, run
from tests.strategies.runs import last

pytestmark = pytest.mark.timeout(1200)
OVERLAYS = ["ddp", "fsdp2", "deepspeed_zero2", "deepspeed_zero3"]  # stage 1 is the code of stage 2
FIXED = ("--data.init_args.micro_batch_size", "8")  # of a global batch of 16


def one(run_dir: Path, overlay: str, ranks: int, stop: str = "") -> Fit:
    return fit(run_dir, overlay, *FIXED, interrupt=stop, ranks=ranks)


@pytest.fixture(scope="module")
def elastic(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("elastic")
    first = [one(root / name, name, 1, "after_step:5:SIGTERM") for name in OVERLAYS]
    assert run(1, [one(root / "whole", "ddp", 1), *first]) == [0] + [4] * len(OVERLAYS)
    second = [one(root / name, name, 2, "after_step:12:SIGTERM:1") for name in OVERLAYS]
    assert run(2, [one(root / "two", "ddp", 2), *second]) == [0] + [4] * len(OVERLAYS)
    assert run(1, [one(root / name, name, 1) for name in OVERLAYS]) == [0] * len(OVERLAYS)
    return root


def steps(run_dir: Path) -> dict[int, tuple[list[str], float]]:
    """Keys, in the order of the stream, and loss of the global batch, by position after it; as computed last."""
    seen: dict[int, dict[int, dict]] = {}
    for rank in (1, 0):  # a record of the second rank may be of a step that the first has computed alone since
        path = run_dir / f"record.{rank}.jsonl"
        for line in path.read_text().splitlines() if path.exists() else []:
            if line:
                found = json.loads(line)
                seen.setdefault(found["position"], {})[rank] = found
    result = {}
    for position, ranks in sorted(seen.items()):
        parts = [ranks[0]] if len(ranks[0]["keys"]) == 16 else [ranks[0], ranks[1]]
        losses = [float.fromhex(part["loss"]) for part in parts]
        result[position] = [key for part in parts for key in part["keys"]], sum(losses) / len(losses)
    return result


@pytest.mark.parametrize("name", ["two", *OVERLAYS])
def test_samples_and_their_order_are_the_same(elastic: Path, name: str):
    mine, whole = steps(elastic / name), steps(elastic / "whole")
    assert {position: keys for position, (keys, _) in mine.items()} == {
        position: keys for position, (keys, _) in whole.items()
    }
    assert len(whole) == 20


@pytest.mark.parametrize("name", ["two", *OVERLAYS])
def test_losses_are_the_same_dropout_included(elastic: Path, name: str):
    mine, whole = steps(elastic / name), steps(elastic / "whole")
    assert [loss for _, loss in mine.values()] == pytest.approx([loss for _, loss in whole.values()], rel=1e-6)


def flat(weights: dict[str, torch.Tensor]) -> torch.Tensor:
    """All of them end to end, in float64."""
    return torch.cat([weights[name].detach().double().flatten() for name in sorted(weights)])


@pytest.mark.parametrize("name", ["two", *OVERLAYS])
def test_parameters_are_the_same(elastic: Path, name: str):
    mine, whole = (flat(last(elastic / run_name)["state_dict"]) for run_name in (name, "whole"))
    assert torch.linalg.vector_norm(mine - whole) <= 1e-6 * torch.linalg.vector_norm(whole)
    assert torch.allclose(mine, whole, rtol=1e-6, atol=1e-6)
