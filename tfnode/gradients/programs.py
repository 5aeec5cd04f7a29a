"""Programs of eager solves, each traced once for all solves of its kind."""

import collections
import functools
import threading
from collections.abc import Callable, Hashable
from typing import Any

import tensorflow as tf

# How many programs are kept. The one that was not used for longest goes first.
MOST = 64


class Program:
    """A function of tensors, traced.

    Args:
        function: Takes and returns nests of tensors. Other leaves of its result are constants.
    """

    def __init__(self, function: Callable):
        self._function = function
        self._result: Any = None
        # TensorFlow would take the methods of all programs as one, and warn that it traces often.
        trace = functools.partial(self._trace)
        self._traced = tf.function(trace, autograph=False, reduce_retracing=True)

    def __call__(self, *arguments: Any) -> Any:
        tensors = iter(self._traced(*arguments))
        return tf.nest.map_structure(
            lambda x: next(tensors) if tf.is_tensor(x) else x, self._result
        )

    def _trace(self, *arguments: Any) -> list:
        self._result = self._function(*arguments)
        return [x for x in tf.nest.flatten(self._result) if tf.is_tensor(x)]


_programs: collections.OrderedDict[Hashable, Program] = collections.OrderedDict()
_lock = threading.Lock()


def run(kind: Hashable, function: Callable, *arguments: Any) -> Any:
    """Return `function(*arguments)`, in eager mode by a program that earlier calls left.

    Args:
        kind: All that the result depends on beside the arguments; `None` for a function that
            no program can stand for.
        function: As in `Program`.
        arguments: Nests of tensors.
    """
    if kind is None or not tf.executing_eagerly():
        return function(*arguments)
    try:
        return _program(kind, function)(*arguments)
    except tf.errors.InvalidArgumentError:
        # The error of a graph does not begin with what failed; that of eager operations does.
        return function(*arguments)


def _program(kind: Hashable, function: Callable) -> Program:
    with _lock:
        if kind not in _programs:
            _programs[kind] = Program(function)
        _programs.move_to_end(kind)
        while len(_programs) > MOST:
            _programs.popitem(last=False)
        return _programs[kind]
