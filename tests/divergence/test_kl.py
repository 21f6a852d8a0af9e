"""KL of two rows of logits: against float64, at small differences and at large ones."""

import numpy as np
import pytest
import torch

from lowrank.divergence.kl import compare


def exact(derivative, model):
    log_p, log_q = (torch.log_softmax(each.double(), dim=-1) for each in (derivative, model))
    return (log_p.exp() * (log_p - log_q)).sum(dim=-1).numpy()


def logits(rows, vocabulary=5000, seed=0, scale=4.0):
    return torch.randn(rows, vocabulary, generator=torch.Generator().manual_seed(seed)) * scale


IDS = torch.arange(8)


@pytest.mark.parametrize("step", [1e-4, 1e-3, 1e-2, 0.1, 1.0, 10.0])
def test_it_is_that_of_float64(step):
    one = logits(8)
    other = one + step * logits(8, seed=1, scale=1.0)
    found = compare(one, other, IDS).kl
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, exact(one, other), rtol=1e-3, atol=1e-10)


def test_of_a_model_with_itself_it_is_nothing():
    assert not compare(logits(8), logits(8), IDS).kl.any()


def test_a_constant_on_all_logits_changes_no_distribution():
    one = logits(8)
    assert compare(one, one + 30, IDS).kl.max() < 1e-9


def test_it_is_never_negative():
    one = logits(200, 50, scale=1.0)
    assert compare(one, one + 1e-5 * logits(200, 50, 1), torch.zeros(200, dtype=int)).kl.min() >= 0


def test_sure_models_that_disagree_give_a_number():
    one, other = torch.zeros(1, 4), torch.zeros(1, 4)
    one[0, 1], other[0, 2] = 200, 200
    (found,) = compare(one, other, torch.tensor([1])).kl
    assert found == pytest.approx(200)


def test_what_both_say_of_the_token_and_of_the_likeliest():
    one, other = torch.tensor([[0.0, 2.0, 1.0]]), torch.tensor([[0.0, 1.0, 2.0]])
    found = compare(one, other, torch.tensor([2]))
    assert found.logp_derivative[0] == pytest.approx(float(torch.log_softmax(one, -1)[0, 2]))
    assert found.logp_model[0] == pytest.approx(float(torch.log_softmax(other, -1)[0, 2]))
    assert not found.equal_top[0]
    assert compare(one, one, torch.tensor([0])).equal_top[0]


def test_rows_that_fill_a_vocabulary_up_do_not_count():
    one, other = logits(4), logits(4, seed=2)
    longer = torch.cat([other, torch.full((4, 3), 50.0)], dim=1)
    np.testing.assert_array_equal(compare(one, longer, IDS[:4]).kl, compare(one, other, IDS[:4]).kl)
