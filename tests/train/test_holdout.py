"""Which files are kept for validation."""

import pytest

from triode.train.holdout import held_back

NAMES = ["extra/0", "extra/1", "one/a", "one/extra", "two", "three/x/y"]


@pytest.mark.parametrize(("every", "kept"), [(1, [2, 3, 4, 5]), (2, [3, 5]), (3, [4]), (4, [5]), (5, [2]), (100, [2])])
def test_every_so_many_but_never_what_is_for_training_alone(every, kept):
    assert held_back(NAMES, every, "extra") == kept


def test_where_everything_is_for_training():
    assert held_back(NAMES[:2], 2, "extra") == [0]


def test_needs_a_positive_number():
    with pytest.raises(ValueError, match="holdout"):
        held_back(NAMES, 0, "extra")
