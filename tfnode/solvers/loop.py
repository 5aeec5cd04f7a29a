"""The loop that walks through the times, the same for every method and controller."""

from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from tfnode.solvers.controller import Pace, Solve
from tfnode.solvers.failure import Caller, compiled_by_xla, nan_samples, nan_where, raised
from tfnode.solvers.record import Recorder
from tfnode.solvers.trajectory import Trajectory


def walk(
    name: str,
    solve: Solve,
    pace: Pace,
    y0: Sequence[tf.Tensor],
    quadratures: Sequence[tf.Tensor],
    max_states: int | None,
    caller: Caller,
    on_failure: str,
) -> Trajectory:
    """Integrate as `Solver.integrate` does.

    A solve consists of legs, and a leg of steps. What is known to be one of its kind when the
    solve is traced, one leg or one step, takes no loop.

    Args:
        name: The name of the solver, for its error.
        solve: The `Solve`.
        pace: The `Pace`.
        y0, quadratures, max_states, caller: As in `Solver.integrate`.
        on_failure: As in `Embedded`.
    """
    y0 = list(y0)
    now = pace.start(y0, list(quadratures))
    arrays: list = []
    if not solve.final_only:
        arrays = pace.arrays(y0)
    recorder = None if max_states is None else Recorder(max_states, pace.total)
    record: Any = () if recorder is None else recorder.start(y0, solve.times[..., 0])

    def walk_leg(i: Any, now: Any, arrays: list, record: Any) -> tuple:
        leg = pace.leg(i, now)

        def step(now: Any, inner: list, record: Any) -> tuple:
            trial = pace.try_step(leg, now)
            reached, inner = pace.output(now, trial, inner)
            if recorder is not None:
                # A rejected step is written over by the next.
                number, h = pace.number(now), pace.taken(trial)
                record = recorder.write(record, number, trial.begin, h, reached, now.y)
            return pace.advance(now, trial, reached), inner, record

        now, inner, record = _repeat(
            pace.straight,
            lambda now, *_: pace.unfinished(leg, now),
            step,
            (now, [] if pace.lands else arrays, record),
            pace.most,
        )
        arrays = [a.write(i + 1, x) for a, x in zip(arrays, now.y)] if pace.lands else inner
        return i + 1, now, arrays, record

    single = isinstance(pace.legs, int) and pace.legs == 1
    _, now, arrays, record = _repeat(
        single,
        lambda i, *_: i < pace.legs,
        walk_leg,
        (0 if single else tf.zeros([], tf.int32), now, arrays, record),
        pace.legs,
    )
    end = pace.finish(now, caller)
    before = []
    if on_failure == "raise" and not compiled_by_xla():
        title = f"{name} failed{caller.during}"
        before = raised(title, end.failed, end.reasons, end.facts)
    with tf.control_dependencies(before):
        states, q = tf.nest.map_structure(
            tf.identity, [now.y if solve.final_only else pace.stacked(arrays), now.q]
        )
    number = pace.number(now)
    kept = None if recorder is None else recorder.finish(record)
    if end.failed.shape.rank:
        states = [nan_samples(end.failed, x, 0 if solve.final_only else 1) for x in states]
        return Trajectory(states, q, end.stats, end.step, kept, end.failed, number)
    # Not under XLA alone: what is traced without it may be compiled by it later.
    states, q = tf.nest.map_structure(lambda x: nan_where(end.failed, x), [states, q])
    if end.slopes and (compiled_by_xla() or on_failure == "nan"):
        # The gradients must be NaN, too, in all that the field depends on.
        slopes = [tf.where(end.failed, x, tf.zeros_like(x)) for x in end.slopes]
        states = [x + nan_where(end.failed, k) for x, k in zip(states, slopes)]
    return Trajectory(states, q, end.stats, end.step, kept, end.failed, number)


def _repeat(once: bool, more: Callable, body: Callable, carried: tuple, most: Any) -> Any:
    """Return what is carried, after a loop or after one call of the body."""
    if once:
        return body(*carried)
    # More iterations in parallel would let the states run ahead of the quadratures, whose pending
    # steps would then hold their activations: memory would grow with the steps.
    return tf.while_loop(more, body, carried, maximum_iterations=most, parallel_iterations=1)
