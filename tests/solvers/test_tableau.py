import pytest

from tfnode.solvers import ButcherTableau


@pytest.mark.parametrize(
    "change",
    [
        {"a": ((), (0.4,))},
        {"a": ((), (0.5, 0.0))},
        {"b": (0.5, 0.4)},
        {"b": (1.0,)},
        {"c": (0.0,)},
        {"b_error": (1.0,)},
        {"b_error": (1.0, -0.5)},
    ],
)
def test_inconsistent_coefficients_are_refused(change):
    midpoint = {"c": (0.0, 0.5), "a": ((), (0.5,)), "b": (0.0, 1.0), "order": 2}
    assert ButcherTableau(**midpoint).stages == 2
    with pytest.raises(ValueError, match="Received"):
        ButcherTableau(**{**midpoint, **change})
