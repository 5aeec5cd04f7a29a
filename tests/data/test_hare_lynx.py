"""The table of hare and lynx."""

import numpy as np

from tfnode.data import hare_lynx


def test_the_table():
    years, pelts = hare_lynx.load()
    np.testing.assert_array_equal(years, np.arange(1845, 1936))
    assert pelts.shape == (91, 2)
    assert (pelts > 0).all()
    # The first and the last row, the years of the largest catches, and the sums of the columns.
    assert pelts[0].tolist() == [19.58, 30.09]
    assert pelts[-1].tolist() == [15.76, 35.4]
    assert years[pelts.argmax(0)].tolist() == [1863, 1886]
    np.testing.assert_allclose(pelts.sum(0), [4131.99, 2578.63], atol=1e-6)


def test_the_cycle_of_ten_years():
    _, pelts = hare_lynx.load()
    logs = np.log(pelts) - np.log(pelts).mean(0)
    power = np.abs(np.fft.rfft(logs, axis=0)) ** 2
    np.testing.assert_array_equal(power.argmax(0), [9, 9])  # Of 91 years.
