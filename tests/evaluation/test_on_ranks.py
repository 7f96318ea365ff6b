import pytest
import torch

from mmfound import distributed
from mmfound.callbacks.evaluations import share_buffers
from mmfound.evaluation import AttributeScore, FewShot, Neighbours, Probe, Retrieval, RidgeRegression, ZeroShot
from mmfound.evaluation.classifiers import LogisticRegression
from tests.evaluation.drawing import Draws, shapes
from tests.evaluation.drawing import data as drawing_data
from tests.evaluation.fakes import ColourModel, Colours, FakeData
from tests.ranks import run_on_ranks


def metrics_passes_and_statistics() -> tuple[dict[str, float], tuple[int, int], list[float]]:
    source = Colours(13, wrong=3, captions=("a {}", "the {}", "{}"))
    model, data = ColourModel(), FakeData(batch_size=2)
    with torch.no_grad():
        found = ZeroShot(source, templates="a {}").evaluate(model, data)
        found |= Retrieval(source, ks=(1, 2, 5)).evaluate(model, data)
        train, val = Colours(31, wrong=7), Colours(11, wrong=2)
        kinds = [LogisticRegression(), RidgeRegression(), Neighbours(5)]
        probe = Probe(source, train, val_source=val, classifiers=kinds)
        found |= probe.evaluate(model, data)
        found |= FewShot(source, train, classifier=Neighbours(1), shots=[1, 3]).evaluate(model, data)
        counts = {table.name: table.rows for table in probe.tables}["ridge_confusion"]
        found |= {f"confusion {row[0]} {n}": float(n) for row in counts for n in row[1:]}
    score = AttributeScore(shapes(), samples=9, shuffled=4)
    drawn = Draws()
    found |= {f"drawn {name}": value for name, value in score.evaluate(drawn, drawing_data(shapes())).items()}
    found |= {f"residual {row[1]}": float(row[-2]) for row in score.tables[1].rows}
    assert len(set(drawn.seen)) == 9 // distributed.world_size() + (distributed.rank() < 9 % distributed.world_size())
    norm = torch.nn.BatchNorm1d(2)
    norm.get_buffer("running_mean").fill_(3.0 + distributed.rank())
    share_buffers(norm)
    return found, (model.image_passes, model.text_passes), norm.get_buffer("running_mean").tolist()


def test_two_ranks_with_unequal_shares_get_what_one_gets_in_equally_many_passes():
    alone, _, statistics = metrics_passes_and_statistics()
    assert 0 < alone["text_to_image_r2"] < 1
    ranks = run_on_ranks(2, metrics_passes_and_statistics)
    for found, passes, shared in ranks:
        assert found == pytest.approx(alone, abs=1e-12)
        assert passes == ranks[0][1]  # sharded weights would wait for ever
        assert shared == statistics
