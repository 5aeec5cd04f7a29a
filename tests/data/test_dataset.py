"""`Dataset`: batches for training and testing."""

import itertools

import numpy as np
import pytest

from tfnode.data import Augmentation, Dataset
from tfnode.data.dataset import MEAN, STANDARD_DEVIATION, normalize

SIZE = 23


@pytest.fixture(scope="module")
def dataset():
    """Images that name their sample in every pixel."""
    numbers = np.arange(SIZE, dtype=np.uint8)
    images = np.broadcast_to(numbers[:, None, None, None], (SIZE, 28, 28, 1)).copy()
    return Dataset("made", "up", images, numbers % 10, images[:7] + 100, numbers[:7] % 10)


def _epochs(dataset, count, batch_size=5, seed=3, epoch=0):
    """The order of the samples in each epoch, and the sizes of all batches."""
    batches = dataset.training_batches(batch_size, seed, epoch)
    steps = dataset.steps(batch_size)
    orders, sizes = [], []
    for images, labels in itertools.islice(batches.as_numpy_iterator(), count * steps):
        numbers = np.rint((images[:, 0, 0, 0] * STANDARD_DEVIATION + MEAN) * 255).astype(int)
        assert images.shape[1:] == (28, 28, 1)
        assert (labels == numbers % 10).all()
        orders.append(numbers)
        sizes.append(len(numbers))
    flat = np.concatenate(orders).reshape(count, SIZE)
    return flat.tolist(), sizes


def test_normalize():
    values = normalize(np.array([0, 255], np.uint8)).numpy()
    assert values.dtype == np.float32
    np.testing.assert_allclose(values, [-0.1307 / 0.3081, (1 - 0.1307) / 0.3081], rtol=1e-6)


@pytest.mark.parametrize("batch_size, steps", [(1, 23), (5, 5), (22, 2), (23, 1), (64, 1)])
def test_steps(dataset, batch_size, steps):
    assert dataset.steps(batch_size) == steps


def test_last_batch_is_smaller(dataset):
    _, sizes = _epochs(dataset, 2)
    assert sizes == [5, 5, 5, 5, 3] * 2


def test_batch_larger_than_the_data(dataset):
    orders, sizes = _epochs(dataset, 2, batch_size=64)
    assert sizes == [SIZE, SIZE]
    assert sorted(orders[0]) == list(range(SIZE))


def test_types_and_values_of_batches(dataset):
    images, labels = next(iter(dataset.training_batches(5, 0)))
    assert images.dtype == "float32"
    assert labels.dtype == "uint8"
    assert images.shape == (5, 28, 28, 1)
    images, labels = next(iter(dataset.test_batches(5)))
    np.testing.assert_allclose(
        images[:, 3, 4, 0], (np.arange(100, 105) / 255 - 0.1307) / 0.3081, rtol=1e-5
    )
    assert labels.numpy().tolist() == [0, 1, 2, 3, 4]


def test_every_epoch_is_a_permutation(dataset):
    orders, _ = _epochs(dataset, 4)
    for order in orders:
        assert sorted(order) == list(range(SIZE))
        assert order != list(range(SIZE))


def test_epochs_differ(dataset):
    orders, _ = _epochs(dataset, 4)
    assert len({tuple(order) for order in orders}) == 4


def test_same_seed_same_order(dataset):
    assert _epochs(dataset, 2) == _epochs(dataset, 2)
    assert _epochs(dataset, 2, seed=3) != _epochs(dataset, 2, seed=4)


def test_seed_and_epoch_are_no_sum(dataset):
    """Epoch 1 of one seed is not epoch 0 of the next."""
    assert _epochs(dataset, 2, seed=0)[0][1] != _epochs(dataset, 1, seed=1)[0][0]


@pytest.mark.parametrize("epoch", [1, 2, 3])
def test_taken_up_at_an_epoch(dataset, epoch):
    whole, _ = _epochs(dataset, 4)
    rest, _ = _epochs(dataset, 4 - epoch, epoch=epoch)
    assert rest == whole[epoch:]


@pytest.mark.parametrize("seed", [0, 2**31 - 1])
def test_limits_of_the_seed(dataset, seed):
    orders, _ = _epochs(dataset, 1, seed=seed)
    assert sorted(orders[0]) == list(range(SIZE))


def test_test_batches_once_in_order(dataset):
    batches = list(dataset.test_batches(3).as_numpy_iterator())
    assert [len(labels) for _, labels in batches] == [3, 3, 1]
    labels = np.concatenate([labels for _, labels in batches])
    np.testing.assert_array_equal(labels, dataset.y_test)


def test_images_are_moved_anew_in_every_batch_and_epoch(dataset):
    """And the same whether training began before or is taken up there."""
    images = np.random.default_rng(0).integers(0, 256, (1, 28, 28, 1), np.uint8)
    same = dataset._replace(x_train=np.repeat(images, SIZE, 0))
    moves = Augmentation(shift=2.0)

    def take(epoch, count):
        batches = same.training_batches(8, 3, epoch, moves)
        return [x for x, _ in itertools.islice(batches.as_numpy_iterator(), count)]

    first = take(0, 6)
    np.testing.assert_array_equal(first[3], take(1, 1)[0])
    flat = np.concatenate(first).reshape(2 * SIZE, -1)
    assert len(np.unique(flat, axis=0)) == 2 * SIZE
    # The order is as without.
    labels = [
        [y for _, y in itertools.islice(same.training_batches(8, 3, 0, m).as_numpy_iterator(), 6)]
        for m in (None, moves)
    ]
    assert all((a == b).all() for a, b in zip(*labels))


@pytest.mark.parametrize("fraction, count", [(0.001, 1), (0.2, 5), (0.999, SIZE - 1)])
def test_hold_out(dataset, fraction, count):
    split = dataset.hold_out(fraction)
    kept, held_out = split.x_train[:, 0, 0, 0], split.x_test[:, 0, 0, 0]
    assert len(held_out) == count
    # All of the training set, each once, and nothing of the test set.
    assert sorted([*kept, *held_out]) == list(range(SIZE))
    assert (split.y_train == kept % 10).all() and (split.y_test == held_out % 10).all()
    np.testing.assert_array_equal(dataset.hold_out(fraction).x_test, split.x_test)


def test_constant_score(dataset):
    """Digits 0, 1 and 2 occur three times, the others twice; the first of them is taken."""
    assert dataset.constant_score == pytest.approx(1 / 7)
    frequent = dataset._replace(y_train=np.full(SIZE, 3), y_test=np.array([3, 3, 1, 3]))
    assert frequent.constant_score == 0.75
