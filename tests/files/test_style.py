"""The look of figures: colours, per cent, logarithms, one epoch, limits."""

import numpy as np
import pytest

from tfnode.files import plots, style


def test_a_model_has_its_colour_in_every_figure():
    one = style.colors(["ode", "resnet"])
    other = style.colors(["mine", "logs/resnet", "ode on mnist"])
    assert one["ode"] == other["ode on mnist"] == style.MODELS["ode"]
    assert one["resnet"] == other["logs/resnet"]
    assert len(set(other.values())) == 3


def test_curves_of_a_figure_differ():
    assert len(set(style.colors(["a", "b", "ode", "node", "c"]).values())) == 5


@pytest.mark.parametrize(
    ("values", "scale"), [([2.0, 0.5, 0.1], "log"), ([2.0, 0.5, -0.1], "linear")]
)
def test_losses_are_logarithmic_where_they_can_be(values, scale):
    _, (axis,) = plots.new_figure()
    plots.draw_curves(axis, {"a": ([1, 2, 3], values)}, "training loss")
    assert axis.get_yscale() == scale


def test_accuracy_is_in_per_cent():
    figure, (axis,) = plots.new_figure()
    plots.draw_curves(axis, {"a": ([1, 2], [0.25, 0.5])}, "test accuracy")
    axis.set_yticks([0.25, 0.5])
    figure.canvas.draw()
    assert axis.get_ylabel() == "test accuracy, %"
    assert [text.get_text() for text in axis.get_yticklabels()] == ["25", "50"]


def test_one_epoch_is_a_point_with_its_spread():
    _, (axis,) = plots.new_figure()
    handles = plots.draw_bands(axis, {"a": [([1], [0.5]), ([1], [0.7])]}, "rmse")
    assert handles["a"].get_marker() == "o"
    (bar,) = axis.collections
    sd = np.std([0.5, 0.7], ddof=1)
    np.testing.assert_allclose(bar.get_segments()[0][:, 1], [0.6 - sd, 0.6 + sd])
    assert list(axis.get_xticks()) == [1]


def test_same_limits():
    _, axes = plots.new_figure(columns=2)
    axes[0].set_ylim(0.0, 1.0)
    axes[1].set_ylim(-2.0, 0.5)
    plots.same_limits(axes)
    assert axes[0].get_ylim() == axes[1].get_ylim() == (-2.0, 1.0)


def test_titles():
    assert plots.origin(["mnist", "mnist", None], [0, 1]) == "mnist, seeds 0, 1"
    assert plots.origin(["digits"], [None]) == "digits"


def test_names_are_names():
    """No mathematics, no hiding by an underscore, no bytes that are not text."""
    figure, (axis,) = plots.new_figure("$x$")
    plots.legend(figure, plots.draw_curves(axis, {"_$a$": ([1], [1]), "\udcff": ([1], [1])}, ""))
    figure.canvas.draw()
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [r"_\$a\$", "?"]
