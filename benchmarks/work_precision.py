"""Measure error against evaluations of the vector field, over the problems of DETEST.

Command: python benchmarks/work_precision.py --plot work_precision.png

Every solver runs all 25 problems of `tests/detest.py` on [0, 20], in float64, with `rtol` and
`atol` both equal to the tolerance and everything else at its own defaults: the norm, the
controller, the first step. Only the state at the end is asked for. Its error is the largest of
`|y - reference| / (1 + |reference|)`, the reference being SciPy's DOP853 at 2.3e-14, the tightest
that it takes. The table has the geometric means over the problems.

Tolerances mean different things to different solvers, so they are compared at equal error: for
each problem, the logarithm of the evaluations is interpolated in that of the error, and the
ratio taken at levels of error that both reach. Errors above 0.1 are left out. A run that fails
is left out too, and counted.

The last table counts the problems whose error at the end is within 100 times the tolerance, at
1e-3, 1e-6 and 1e-9. Those beyond are orbits and cycles that magnify an error of any method.

How evaluations are counted: by a counter in the vector field for torchdiffeq and diffrax; by the
solver's statistics for SciPy and tfnode, whose tests hold them to a counter; for TFP by its
diagnostics, and 1 for the first derivative, which they leave out.

TFP's errors stop falling at 1e-8 or so since it rounds its coefficients to float32.

Evaluations, unlike times, do not mind a machine that is busy.
"""

import functools
import pathlib
import sys

import diffrax
import harness
import jax
import jax.numpy as jnp
import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp
import torch
import torchdiffeq
from scipy.integrate import solve_ivp

import tfnode

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "tests"))

from detest import PROBLEMS

END = 20.0
LARGEST_ERROR = 0.1
SMALLEST_ERROR = 1e-15
MAX_STEPS = 100_000
ALLOWED, COUNTED = 100.0, (1e-3, 1e-6, 1e-9)


@functools.cache
def reference(key):
    """Return the state at the end."""
    problem = PROBLEMS[key]
    found = solve_ivp(
        problem.field(np), problem.times, problem.y0, "DOP853", rtol=2.3e-14, atol=1e-15
    )
    return found.y[:, -1]


class Failed(Exception):
    """The end of a solver that gave up."""


# Each solver is a function of a tolerance. It returns a function of a problem's name, which
# returns the state at the end and the number of evaluations, or raises `Failed`.


def _tensorflow(integrate):
    """Trace `integrate(field, y0)` once for all problems.

    Args:
        integrate: Returns the final state and the number of evaluations.
    """
    scalar, index = tf.TensorSpec([], tf.float64), tf.TensorSpec([], tf.int32)
    vector = tf.TensorSpec([None], tf.float64)
    attributes = {"_noinline": True}  # Smaller graphs.

    @tf.function(input_signature=[scalar, vector, index], experimental_attributes=attributes)
    def field(t, y, i):
        return tf.switch_case(i, [functools.partial(p.field(tf), t, y) for p in PROBLEMS.values()])

    @tf.function(input_signature=[vector, index])
    def run(y0, i):
        return integrate(lambda t, y: field(t, y, i), y0)

    def solve(key):
        try:
            y, evaluations = run(PROBLEMS[key].y0, list(PROBLEMS).index(key))
        except tf.errors.InvalidArgumentError as error:
            raise Failed from error
        return y.numpy(), int(evaluations)

    return solve


def tfnode_solver(name, tolerance):
    """Return a solver of this package."""
    method = type(tfnode.solvers.get(name))(rtol=tolerance, atol=tolerance, max_steps=MAX_STEPS)

    def integrate(field, y0):
        states, stats = tfnode.odeint(field, y0, [0.0, END], solver=method, return_stats=True)
        return states[-1], stats.num_evaluations

    return _tensorflow(integrate)


def tfp_solver(tolerance):
    """Return the Dormand-Prince method of TensorFlow Probability."""
    method = tfp.math.ode.DormandPrince(rtol=tolerance, atol=tolerance, max_num_steps=MAX_STEPS)

    def integrate(field, y0):
        found = method.solve(field, 0.0, y0, solution_times=[END])
        return found.states[-1], found.diagnostics.num_ode_fn_evaluations + 1

    return _tensorflow(integrate)


def scipy_solver(name, tolerance):
    """Return a method of `scipy.integrate.solve_ivp`."""

    def solve(key):
        problem = PROBLEMS[key]
        found = solve_ivp(
            problem.field(np), problem.times, problem.y0, name, rtol=tolerance, atol=tolerance
        )
        if not found.success:
            raise Failed(found.message)
        return found.y[:, -1], found.nfev

    return solve


class TorchArrays:
    """The functions that the problems use, under the names that the problems call them."""

    sqrt, sin, cos = torch.sqrt, torch.sin, torch.cos
    stack, reshape, einsum = torch.stack, torch.reshape, torch.einsum

    @staticmethod
    def add(x, y):
        """Return the sum of a tensor and a NumPy array or number."""
        return x + torch.as_tensor(y)

    @staticmethod
    def multiply(x, y):
        """Return the product of a tensor and a NumPy array or number."""
        return x * torch.as_tensor(y)

    @staticmethod
    def pad(x, widths):
        """Return a vector with zeros before and after it."""
        return torch.nn.functional.pad(x, widths[0])


def torchdiffeq_solver(tolerance):
    """Return the dopri5 of torchdiffeq."""

    def solve(key):
        field = PROBLEMS[key].field(TorchArrays)
        evaluations = 0

        def func(t, y):
            nonlocal evaluations
            evaluations += 1
            return field(t, y)

        try:
            with torch.no_grad():
                states = torchdiffeq.odeint(
                    func,
                    torch.tensor(PROBLEMS[key].y0),
                    torch.tensor([0.0, END], dtype=torch.float64),
                    rtol=tolerance,
                    atol=tolerance,
                    method="dopri5",
                    options={"max_num_steps": MAX_STEPS},
                )
        except AssertionError as error:
            raise Failed from error
        return states[-1].numpy(), evaluations

    return solve


class DiffraxProblem:
    """A problem compiled for diffrax, with a counter in its vector field."""

    def __init__(self, key):
        self.evaluations = 0
        self.field = PROBLEMS[key].field(jnp)
        self.y0 = jnp.asarray(PROBLEMS[key].y0)
        self.solve = jax.jit(self._solve)

    def _count(self):
        self.evaluations += 1

    def _func(self, t, y, args):
        jax.debug.callback(self._count)
        return self.field(t, y)

    def _solve(self, tolerance):
        return diffrax.diffeqsolve(
            diffrax.ODETerm(self._func),
            diffrax.Dopri5(),
            t0=0.0,
            t1=END,
            dt0=None,
            y0=self.y0,
            stepsize_controller=diffrax.PIDController(rtol=tolerance, atol=tolerance),
            max_steps=MAX_STEPS,
            throw=False,
        )

    def __call__(self, tolerance):
        self.evaluations = 0
        found = self.solve(tolerance)
        jax.effects_barrier()
        if not diffrax.is_successful(found.result):
            raise Failed
        return np.asarray(found.ys[-1]), self.evaluations


_diffrax_problem = functools.cache(DiffraxProblem)  # Compiled once for all tolerances.


def diffrax_solver(tolerance):
    """Return the Dopri5 of diffrax."""
    return lambda key: _diffrax_problem(key)(tolerance)


SOLVERS = {
    "tfnode dopri5": functools.partial(tfnode_solver, "dopri5"),
    "tfnode tsit5": functools.partial(tfnode_solver, "tsit5"),
    "tfnode dopri8": functools.partial(tfnode_solver, "dopri8"),
    "tfnode bosh3": functools.partial(tfnode_solver, "bosh3"),
    "torchdiffeq dopri5": torchdiffeq_solver,
    "TFP DormandPrince": tfp_solver,
    "diffrax Dopri5": diffrax_solver,
    "SciPy RK45": functools.partial(scipy_solver, "RK45"),
    "SciPy DOP853": functools.partial(scipy_solver, "DOP853"),
}
# Pairs to compare at equal error: the same method in other libraries, or a similar one.
COMPARISONS = (
    ("tfnode dopri5", "torchdiffeq dopri5"),
    ("tfnode dopri5", "TFP DormandPrince"),
    ("tfnode dopri5", "diffrax Dopri5"),
    ("tfnode dopri5", "SciPy RK45"),
    ("tfnode tsit5", "tfnode dopri5"),
    ("tfnode dopri8", "SciPy DOP853"),
)


def measure(name, tolerances, problems):
    """Run one solver.

    Returns:
        For each problem a list with one `[evaluations, error]` for each tolerance, `None` where
        the solver failed.
    """
    found = {key: [] for key in problems}
    for tolerance in tolerances:
        solve = SOLVERS[name](tolerance)
        for key in problems:
            try:
                y, evaluations = solve(key)
            except Failed:
                found[key].append(None)
                continue
            expected = reference(key)
            error = np.max(np.abs(y - expected) / (1.0 + np.abs(expected)))
            error = max(float(error), SMALLEST_ERROR) if np.isfinite(error) else None
            found[key].append(None if error is None else [evaluations, error])
    return found


def means(found, i):
    """Average over the problems for tolerance `i`, geometrically, and count the failures.

    Returns:
        `(evaluations, error, failures)`, the first two NaN where all failed.
    """
    points = [runs[i] for runs in found.values() if runs[i] is not None]
    evaluations, error = np.exp(np.mean(np.log(points), axis=0)) if points else (np.nan, np.nan)
    return float(evaluations), float(error), len(found) - len(points)


def _curve(runs):
    """Return logarithms of the errors, rising, and of the least evaluations for them."""
    points = sorted(run for run in runs if run is not None and run[1] <= LARGEST_ERROR)
    if len(points) < 2:
        return None
    evaluations, errors = np.log(points).T
    # More work can make things worse by chance. One takes the best so far.
    return np.minimum.accumulate(errors)[::-1], evaluations[::-1]


def ratios(ours, theirs, levels=25):
    """Divide the evaluations of one solver by those of another at equal error, by problem.

    Args:
        ours, theirs: What `measure` returned.
        levels: How many levels of error, evenly spaced in the logarithm over the range that
            both solvers reach. The ratio is the geometric mean over them.

    Returns:
        A dict. Problems in which the ranges do not meet are left out.
    """
    result = {}
    for key in ours:
        curves = _curve(ours[key]), _curve(theirs[key])
        if None in curves:
            continue
        low = max(errors[0] for errors, _ in curves)
        high = min(errors[-1] for errors, _ in curves)
        if low >= high:
            continue
        at = np.linspace(low, high, levels)
        ours_at, theirs_at = (np.interp(at, *curve) for curve in curves)
        result[key] = float(np.exp(np.mean(ours_at - theirs_at)))
    return result


def table(results, tolerances):
    """Return the means as Markdown."""
    columns = ("error / evaluations", *[f"{tolerance:.0e}" for tolerance in tolerances])
    rows = []
    for name, found in results.items():
        cells = []
        for i in range(len(tolerances)):
            evaluations, error, failures = means(found, i)
            cell = f"{error:.1e} / {evaluations:,.0f}"
            cells.append(cell + (f" ({failures} failed)" if failures else ""))
        rows.append((name, *cells))
    return harness.markdown(columns, rows)


def comparison_table(comparisons):
    """Return the ratios as Markdown."""
    columns = ("evaluations at equal error", "ratio", "least", "most", "problems")
    rows = []
    for pair, found in comparisons.items():
        least, most = min(found, key=found.get), max(found, key=found.get)
        numbers = [f"{found[least]:.2f} ({least})", f"{found[most]:.2f} ({most})", str(len(found))]
        rows.append((pair, f"{mean(found):.3f}", *numbers))
    return harness.markdown(columns, rows)


def within_table(results, tolerances):
    """Count the problems that end within `ALLOWED` tolerances of the reference, as Markdown."""
    chosen = [
        i for i, t in enumerate(tolerances) if np.isclose(t, COUNTED, rtol=1e-6, atol=0).any()
    ]
    columns = ("within 100 tolerances", *[f"{tolerances[i]:.0e}" for i in chosen], "sum", "beyond")
    rows = []
    for name, found in results.items():
        beyond, cells = {}, []
        for i in chosen:
            limit = ALLOWED * tolerances[i]
            missed = [k for k, runs in found.items() if runs[i] is None or runs[i][1] > limit]
            beyond.update(dict.fromkeys(missed))
            cells.append(len(found) - len(missed))
        total = f"{sum(cells)} of {len(found) * len(chosen)}"
        rows.append((name, *map(str, cells), total, " ".join(sorted(beyond)) or "-"))
    return harness.markdown(columns, rows)


def mean(found):
    """Return the geometric mean over the problems."""
    return float(np.exp(np.mean(np.log(list(found.values())))))


def plot(results, tolerances, path):
    """Write the diagram: all problems large, each class small."""
    from tfnode.files import plots, style

    classes = sorted({key[0] for found in results.values() for key in found})
    figure = plots.blank_figure(style.WIDE, 6.6, "DETEST, dashed: other libraries")
    handles = {}
    grid = figure.add_gridspec(2, 1, height_ratios=(2, 1))
    small = grid[1].subgridspec(1, len(classes))
    panels = [("all problems", figure.add_subplot(grid[0]), "")]
    panels += [(f"class {c}", figure.add_subplot(small[i]), c) for i, c in enumerate(classes)]
    for title, axes, start in panels:
        for i, (name, found) in enumerate(results.items()):
            part = {key: runs for key, runs in found.items() if key.startswith(start)}
            work, errors, _ = zip(*[means(part, j) for j in range(len(tolerances))])
            own = name.startswith("tfnode")
            look = {"linestyle": "-" if own else "--", "linewidth": 1.8 if own else 1.2}
            color = (*style.CYCLE, "#882255")[i % 9]
            (handles[name],) = axes.loglog(work, errors, marker=".", color=color, **look)
        axes.set_title(title)
        axes.set_xlabel("evaluations")
        style.grid(axes)
    plots.same_limits([axes for _, axes, _ in panels[1:]])
    for _, axes, _ in panels[2:]:
        axes.tick_params(labelleft=False)
    panels[0][1].set_ylabel("global error at the end, geometric mean")
    panels[1][1].set_ylabel("error")
    plots.legend(figure, handles)
    plots.save(figure, path)


def main():
    """Parse the flags and print the tables."""
    parser = harness.parser(__doc__)
    parser.add_argument("--solvers", nargs="+", choices=SOLVERS, default=list(SOLVERS))
    parser.add_argument("--problems", nargs="+", choices=PROBLEMS, default=list(PROBLEMS))
    default = [10.0**-i for i in range(3, 11)]
    parser.add_argument("--tolerances", nargs="+", type=float, default=default)
    parser.add_argument("--plot", metavar="FILE", help="write a diagram there, a PNG")
    arguments = harness.parse(parser)
    jax.config.update("jax_enable_x64", True)
    results, tolerances = {}, arguments.tolerances
    for name in arguments.solvers:
        results[name] = measure(name, tolerances, arguments.problems)
        print(f"{name}: done", file=sys.stderr)
    comparisons = {
        f"{ours} / {theirs}": ratios(results[ours], results[theirs])
        for ours, theirs in COMPARISONS
        if ours in results and theirs in results
    }
    comparisons = {pair: found for pair, found in comparisons.items() if found}
    runs = [
        {"solver": name, "problem": key, "runs": runs}
        for name, found in results.items()
        for key, runs in found.items()
    ]
    means_of_ratios = {pair: mean(found) for pair, found in comparisons.items()}
    summary = [
        {"pair": pair, "ratio": ratio, "problems": comparisons[pair]}
        for pair, ratio in means_of_ratios.items()
    ]
    harness.report(
        arguments,
        [
            table(results, tolerances),
            comparison_table(comparisons),
            within_table(results, tolerances),
        ],
        {"comparisons": summary, "results": runs},
        means_of_ratios,
        f"{len(arguments.problems)} problems. ",
    )
    if arguments.plot:
        plot(results, tolerances, arguments.plot)


if __name__ == "__main__":
    main()
