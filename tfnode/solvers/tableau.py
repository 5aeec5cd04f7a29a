"""Butcher tableaux: a Runge-Kutta method as data."""

import dataclasses
import math

StageRows = list[tuple[float, tuple[float, ...]]]  # `(c, row of a)` for each stage.

# A row for each derivative: the coefficients of `theta`, `theta^2`, ... in its weight.
Dense = tuple[tuple[float, ...], ...]


@dataclasses.dataclass(frozen=True)
class ButcherTableau:
    """The coefficients of an explicit Runge-Kutta method, checked on construction.

    One step of size `h` from `(t, y)` is

    ```
    k[i]  = f(t + c[i] * h, y + h * sum_j a[i][j] * k[j])        i = 0 ... s-1
    y_new = y + h * sum_i b[i] * k[i]
    error = h * sum_i b_error[i] * k[i]
    y(t + theta * h) = y + h * sum_i w_i(theta) * k[i]
    w_i(theta) = sum_m dense[i][m] * theta^(m+1)
    ```

    Where the last stage is not the derivative at the end of the step, that derivative
    follows the stages as one more `k` in the dense output.

    Args:
        c: The stage times, `s` numbers, the first of them 0.
        a: The strictly lower triangle of the stage matrix: row `i` has `i` numbers
            that sum to `c[i]`.
        b: The weights of the solution, `s` numbers that sum to 1.
        order: The order of the solution.
        b_error: The weights of the solution less those of the embedded one, `s`
            numbers that sum to 0. `None` for a method without an error estimate.
        dense: The dense output: a row for each `k`, the coefficients of `theta`,
            `theta^2`, ... in its weight. `None` for a method without one.

    Raises:
        ValueError: If the shapes do not fit or a sum is off.

    Reference: Hairer, Norsett, Wanner, *Solving Ordinary Differential Equations I*
    (1993), section II.1.
    """

    c: tuple[float, ...]
    a: tuple[tuple[float, ...], ...]
    b: tuple[float, ...]
    order: int
    b_error: tuple[float, ...] | None = None
    dense: Dense | None = None

    def __post_init__(self) -> None:
        stages = len(self.b)
        if len(self.c) != stages or [len(row) for row in self.a] != list(range(stages)):
            raise ValueError(
                "A ButcherTableau of s stages needs s numbers in `c` and `b` and rows of "
                f"0, 1, ..., s-1 numbers in `a`. Received: c={self.c}, a={self.a}, b={self.b}"
            )
        if self.b_error is not None and len(self.b_error) != stages:
            raise ValueError(
                f"`b_error` must have as many numbers as `b` ({stages}). "
                f"Received: b_error={self.b_error}"
            )
        sums = [(sum(row), c, f"row {i} of `a`") for i, (row, c) in enumerate(zip(self.a, self.c))]
        sums.append((sum(self.b), 1.0, "`b`"))
        if self.b_error is not None:
            sums.append((sum(self.b_error), 0.0, "`b_error`"))
        if self.dense is not None:
            size = stages if self.first_same_as_last else stages + 1
            powers = len(self.dense[0])
            if [len(row) for row in self.dense] != [powers] * size:
                raise ValueError(
                    f"`dense` must have {size} rows of equal length. Received: dense={self.dense}"
                )
            # Exact for a constant field; the end of the step is the solution there.
            for m, column in enumerate(zip(*self.dense)):
                sums.append((sum(column), float(m == 0), f"column {m} of `dense`"))
            for i, (row, weight) in enumerate(zip(self.dense, (*self.b, 0.0))):
                sums.append((sum(row), weight, f"row {i} of `dense`"))
        for total, expected, name in sums:
            if not math.isclose(total, expected, abs_tol=1e-12):
                raise ValueError(f"{name} must sum to {expected}. Received: a sum of {total}")

    @property
    def stages(self) -> int:
        """Evaluations of the vector field in one step."""
        return len(self.b)

    @property
    def rows(self) -> StageRows:
        """`(c, row of a)` for each stage."""
        return list(zip(self.c, self.a))

    @property
    def error_weights(self) -> tuple[float, ...]:
        """`b_error`, for a method that has it."""
        if self.b_error is None:
            raise ValueError(
                "Steps of an adaptive size need a method that estimates its error. Give the "
                "tableau `b_error`, or the solver fixed steps. Received: b_error=None"
            )
        return self.b_error

    @property
    def solution_rows(self) -> StageRows:
        """The `rows` of the stages that the solution at the end of the step needs."""
        return self.rows[:-1] if self.first_same_as_last else self.rows

    @property
    def dense_rows(self) -> StageRows:
        """The `rows` of all derivatives in the dense output."""
        return self.rows if self.first_same_as_last else [*self.rows, (1.0, self.b)]

    @property
    def first_same_as_last(self) -> bool:
        """Whether the last stage is the derivative at the end of the step."""
        return self.a[-1] == self.b[:-1] and self.b[-1] == 0.0 and self.c[-1] == 1.0
