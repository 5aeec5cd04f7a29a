"""Options beside a solver's name, fixed steps that nobody chose, and how solvers are shown."""

import warnings

import pytest

from tfnode import solvers


def test_options_beside_a_name():
    solver = solvers.get("Tsit5", rtol=1e-5, max_steps=None)
    assert type(solver) is solvers.Tsit5
    assert (solver.rtol, solver.atol, solver.max_steps) == (1e-5, 1e-6, 4096)
    assert solvers.get("rk4", step_size=0.5).step_size == 0.5
    assert solvers.get("bdf", rtol=1e-5).rtol == 1e-5
    with pytest.raises(ValueError, match="'rk4' are num_steps, step_size, on_failure.*rtol=1e-05"):
        solvers.get("rk4", rtol=1e-5)
    with pytest.raises(ValueError, match="`rtol` must be.*Received: rtol=-1"):
        solvers.get("dopri5", rtol=-1)
    for other in (solvers.RK4(), solvers.serialize(solvers.RK4())):
        with pytest.raises(ValueError, match="beside its name.*Received.*num_steps=3"):
            solvers.get(other, num_steps=3)
        assert isinstance(solvers.get(other, num_steps=None), solvers.RK4)


@pytest.mark.parametrize("name", [*solvers.FIXED_STEP, "RK4"])
def test_a_step_that_nobody_chose_is_a_warning(name):
    def odeint():
        return solvers.for_solve(name)

    with pytest.warns(UserWarning, match=rf'{name.lower()}.*num_steps=.*"dopri5"') as caught:
        assert odeint().num_steps == 1
    assert [x.filename for x in caught] == [__file__]


@pytest.mark.parametrize(
    ("solver", "options"),
    [
        ("rk4", {"num_steps": 1}),
        ("rk4", {"step_size": 0.1}),
        (solvers.RK4(), {}),
        (solvers.serialize(solvers.RK4()), {}),
        ("dopri5", {}),
        ("bdf", {}),
    ],
)
def test_a_choice_is_quiet(solver, options):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        solvers.for_solve(solver, **options)
    assert not [x for x in caught if x.category is UserWarning]


@pytest.mark.parametrize(
    "text",
    [
        "Dopri5(rtol=1e-05, atol=1e-06, max_steps=4096)",
        "Bosh3(rtol=0.001, atol=0.0, first_step=0.1, max_steps=10)",
        "Tsit5(num_steps=3)",
        "RK4(num_steps=1)",
        "Euler(step_size=0.5)",
        "BDF(rtol=0.001, atol=1e-06, max_steps=4096)",
    ],
)
def test_a_solver_is_shown_as_it_is_written(text):
    assert repr(eval(text, vars(solvers) | {n: getattr(solvers, n) for n in dir(solvers)})) == text
