"""Linear layers on blocks of rows: few shapes, the same results, no bit that the batch decides."""

import pytest

from lowrank.sampling import batch_invariance

torch = pytest.importorskip("torch")


def watched(shapes, odd=False):
    """A linear layer that notes the shapes it is given; an odd one rounds by their size."""

    def linear(x, weight, bias):
        shapes.append(tuple(x.shape))
        return torch.nn.functional.linear(x, weight, bias) + odd * len(x) * 1e-6

    return linear


@pytest.mark.parametrize("count", [0, 1, 4, 63, 64, 65, 128, 129, 200, 400, 1024, 1025, 2100])
@pytest.mark.parametrize("odd", [False, True])
def test_linear_layers_see_whole_blocks_and_compute_the_same(count, odd):
    """All at once where that makes no difference, and one by one where it does."""
    shapes = []
    blockwise = batch_invariance.in_blocks(watched(shapes, odd), {})
    x, weight, bias = torch.randn(count, 8), torch.randn(3, 8), torch.randn(3)
    blockwise(x, weight, bias)  # the noise has been tried after this
    shapes.clear()
    made = blockwise(x, weight, bias)
    assert all(rows == 64 if odd else rows % 64 == 0 for rows, _ in shapes)
    assert sum(rows for rows, _ in shapes) < max(count, 1) + 64
    assert odd or len(shapes) == max(-(-count // 1024), 1)
    torch.testing.assert_close(made, torch.nn.functional.linear(x, weight, bias), rtol=0, atol=1e-3)


def test_a_row_comes_out_the_same_wherever_it_stands():
    """In float32, where torch's own product rounds by the number of rows."""
    weight = torch.randn(272, 256)
    blockwise = batch_invariance.in_blocks(torch.nn.functional.linear, {})
    x = torch.randn(700, 256)
    whole = blockwise(x, weight, None)
    for count in (1, 5, 64, 100, 300):
        chosen = torch.randperm(700)[:count]
        assert torch.equal(blockwise(x[chosen], weight, None), whole[chosen])


def test_a_dimension_of_one_more_is_kept():
    x, weight = torch.randn(1, 70, 8), torch.randn(3, 8)
    shapes = []
    made = batch_invariance.in_blocks(watched(shapes), {})(x, weight, None)
    torch.testing.assert_close(made, torch.nn.functional.linear(x, weight))
    assert set(shapes) <= {(64, 8), (128, 8)}


def test_a_model_without_the_layers_expected_is_an_error():
    with pytest.raises(RuntimeError, match="no cpu_linear"):
        batch_invariance.make_batch_invariant(torch.nn.Linear(2, 2))


def test_every_layer_is_wrapped_once():
    model = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.ReLU(), torch.nn.Linear(3, 2))
    shapes = []
    for layer in (model[0], model[2]):
        layer.cpu_linear = watched(shapes)
    batch_invariance.make_batch_invariant(model)
    for layer in (model[0], model[2]):
        layer.cpu_linear(torch.randn(5, layer.in_features), layer.weight, layer.bias)
    assert shapes == [(64, 2), (64, 3)]
