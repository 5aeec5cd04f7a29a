"""Densities in the plane, and the command that learns them."""

import numpy as np
import pytest

from tfnode.reproduce import densities, planar
from tfnode.runs import files


@pytest.mark.parametrize("name", planar.SETS)
def test_samples(name):
    x = planar.samples(name, 500, 0, 0)
    assert (x.shape, x.dtype) == ((500, 2), np.float32)
    assert np.abs(x).max() < densities.LIMIT
    np.testing.assert_array_equal(x, planar.samples(name, 500, 0, 0))
    for other in (planar.samples(name, 500, 0, 1), planar.samples(name, 500, 1, 0)):
        # Other samples of the same density.
        assert not set(map(tuple, x)) & set(map(tuple, other))
        np.testing.assert_allclose(other.mean(0), x.mean(0), atol=0.5)


def test_the_regularised_network():
    model = densities.network(0.5)
    assert [x.weight for x in model.flow.regularizers] == [0.5, 0.5]
    assert model.flow.solver.rtol == densities.TOLERANCE


@pytest.mark.slow
def test_command(tmp_path):
    out = tmp_path / "out"
    assert densities.main([f"--out={out}", "--quick"]) == 0
    names = sorted(p.name for p in out.iterdir())
    assert names == ["densities.png", "nfe.png", "results.json", "table.md"]
    results = files.read_json(out / "results.json")["results"]
    assert len((out / "table.md").read_text().splitlines()) == 2 + 2
    for cell in results["moons"].values():
        assert cell[0]["nfe_forward"][-1] >= 8
        assert cell[0]["loss"][-1] < cell[0]["loss"][0]
