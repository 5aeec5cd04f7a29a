"""Classify an irregular series with gaps."""

# %% [markdown]
# # An irregular series
#
# Measurements fail, and clocks differ. Here 70 % of the points of each series are missing. The
# state of an `ODERNN` follows an ODE from each point to the next, however far that is, and a
# recurrent cell changes it where a point was observed.
#
# The data come with tfnode: utterances of the vowel /ae/ by nine speakers (Kudo, Toyama and
# Shimbo). The task is to tell who speaks.

# %%
import keras
import matplotlib.pyplot as plt
import numpy as np

import tfnode

keras.utils.set_random_seed(0)
vowels = tfnode.data.load("japanese_vowels", missing=0.7)
x_train, x_test = vowels.inputs(vowels.x_train), vowels.inputs(vowels.x_test)
values, times = x_train
print("values", values.shape, "times", times.shape)
print("times of the first series:", times[0, :5], "...")
print("its first channel:", values[0, :5, 0], "...")

# %% [markdown]
# A series has up to 29 points of 12 channels, and NaN is a missing value. Its times count in tenths
# of a second. A series that ends early repeats its last time. `tfnode.data.series_from_rows` makes
# these two arrays of series of your own.
#
# The model takes both. The dynamics are a small network by default, and the cell is a GRU. The
# noise in training keeps 270 series from being learned by heart.

# %%
inputs = keras.Input((29, 12)), keras.Input((29,))
noisy = keras.layers.GaussianNoise(0.6)(inputs[0])
series = tfnode.layers.ODERNN(32)
logits = keras.layers.Dense(9)
model = keras.Model(inputs, logits(series(noisy, times=inputs[1])))


def train(model, learning_rate):
    """Train a model, and return its accuracy on the test set."""
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(learning_rate), loss, metrics=["accuracy"])
    model.fit(x_train, vowels.y_train, batch_size=32, epochs=12, verbose=0)
    return model.evaluate(x_test, vowels.y_test, verbose=0)[1]


accuracy = train(model, learning_rate=1e-2)

# %% [markdown]
# Two baselines belong beside it: the speaker who is most frequent in training, and a linear
# classifier, which sees the series on a regular grid. It fills a gap by the last observation.

# %%
linear = train(tfnode.models.linear_series((29, 12), 9), learning_rate=3e-3)
print(f"most frequent speaker {100 * vowels.constant_score:.1f} %")
print(f"linear                {100 * linear:.1f} %")
print(f"ODE-RNN               {100 * accuracy:.1f} %")
assert accuracy > max(linear, 0.9)

# %% [markdown]
# The ODE-RNN is ahead where so much is missing. That is not so everywhere. In a longer study,
# [Series that were measured](../time_series.md#series-that-were-measured), the linear classifier is
# ahead with all points there, and a recurrent network whose state just decays in the gaps is within
# a point of the ODE-RNN.
#
# The state is known at every time, in the gaps, too. So the speaker can be told before the end:
# the same layer returns all states with `return_sequences`.

# %%
sample = 6
values, times = (x[sample : sample + 1] for x in x_test)
states = tfnode.layers.ODERNN.from_config({**series.get_config(), "return_sequences": True})
states.build(values.shape)
states.set_weights(series.get_weights())
probabilities = keras.ops.softmax(logits(states(values, times=times)))[0]
# The same with all points, which have nearly the same mean and deviation.
complete = tfnode.data.load("japanese_vowels").x_test[sample]

figure, (left, right) = plt.subplots(1, 2, figsize=(8, 3.2), layout="constrained")
for channel, color in enumerate(["#0072b2", "#e69f00", "#009e73"]):
    seen = ~np.isnan(values[0, :, channel])
    left.plot(times[0], complete[:, channel], "o", color=color, markerfacecolor="none", alpha=0.4)
    left.plot(times[0, seen], values[0, seen, channel], "o", color=color)
for speaker in range(9):
    found = speaker == vowels.y_test[sample]
    right.plot(times[0], probabilities[:, speaker], color="#0072b2" if found else "0.75")
for axis in (left, right):
    for time in times[0, seen]:
        axis.axvline(time, color="0.9", zorder=0)
left.set(title="3 of 12 channels, hollow: missing", xlabel="time, 0.1 s")
right.set(title="probability of each speaker", xlabel="time, 0.1 s", ylim=(0, 1))

# %% [markdown]
# The blue line is the right speaker. Points were observed at the grey lines, and between them the
# state moves by the ODE alone. [Time series](../time_series.md#irregular-series) has the layer's
# equation, the neural CDE beside it, and a table of your own as input.
