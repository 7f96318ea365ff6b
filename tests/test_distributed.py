"""Collectives: identity on one process, and right values and gradients on several."""

import torch

from mmfound.distributed import gather_batch, gather_rows, rank, world_size
from tests.ranks import run_on_ranks


def test_one_process_gathers_nothing():
    x = torch.randn(3, 2)
    assert gather_batch(x) is x
    assert gather_rows(x) is x
    assert (rank(), world_size()) == (0, 1)


def _gather_and_differentiate():
    x = (torch.arange(4.0).view(2, 2) + 10 * rank()).requires_grad_()
    weight = torch.arange(8.0).view(4, 2) * (rank() + 1)
    gathered = gather_batch(x)
    total = (gathered * weight).sum()
    total.backward()
    return gathered, x.grad


def test_gather_batch_concatenates_and_sums_the_gradients_of_all_ranks():
    results = run_on_ranks(2, _gather_and_differentiate)
    expected = torch.cat([torch.arange(4.0).view(2, 2), torch.arange(4.0).view(2, 2) + 10])
    for index, (gathered, grad) in enumerate(results):
        assert gathered.tolist() == expected.tolist()
        assert grad.tolist() == (3 * torch.arange(8.0).view(4, 2)[2 * index : 2 * index + 2]).tolist()


def _keep_the_incoming_gradient():
    incoming = torch.ones(4, 1)
    gather_batch(torch.ones(2, 1, requires_grad=True)).backward(incoming)
    return incoming


def test_gather_batch_leaves_the_incoming_gradient_alone():
    for incoming in run_on_ranks(2, _keep_the_incoming_gradient):
        assert incoming.tolist() == [[1.0]] * 4


def _gather_unequal():
    return gather_rows(torch.full((rank() + 1, 2), float(rank())))


def test_gather_rows_takes_another_number_from_each_rank():
    for rows in run_on_ranks(2, _gather_unequal):
        assert rows.tolist() == [[0.0, 0.0], [1.0, 1.0], [1.0, 1.0]]


def _gather_integers():
    return gather_batch(torch.tensor([rank(), 7]))


def test_gather_batch_takes_integers():
    for ids in run_on_ranks(2, _gather_integers):
        assert ids.tolist() == [0, 7, 1, 7]
