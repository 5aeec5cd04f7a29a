"""Time one training step in half precision, against ours in float32.

Command: python benchmarks/precision.py
         python benchmarks/precision.py --rows resnet-float32 resnet-bfloat16

The paper's Neural ODE (and with `--rows`, ResNet-18) as `train.py --precision=...` trains it,
timed as in `mnist_step.py`: every row a process of its own, in turns. Layers compute in half
precision; weights, the solver's state, its times and sums are float32.

A processor gains by `mixed_bfloat16` where it multiplies that type itself (AVX512_BF16, AMX);
the footer says. `mixed_float16` is for GPUs.
"""

import functools

import harness
import mnist_step

ROWS = {
    "float32": mnist_step.tfnode_step,
    "bfloat16": functools.partial(mnist_step.tfnode_step, precision="mixed_bfloat16"),
    "float16": functools.partial(mnist_step.tfnode_step, precision="mixed_float16"),
    "resnet-float32": functools.partial(mnist_step.tfnode_step, model="resnet18"),
    "resnet-bfloat16": functools.partial(
        mnist_step.tfnode_step, model="resnet18", precision="mixed_bfloat16"
    ),
}
LABELS = {
    "float32": "Neural ODE, float32",
    "bfloat16": "Neural ODE, mixed_bfloat16",
    "float16": "Neural ODE, mixed_float16",
    "resnet-float32": "ResNet-18, float32",
    "resnet-bfloat16": "ResNet-18, mixed_bfloat16",
}


def bfloat16_instructions():
    """Name the processor's instructions for bfloat16."""
    flags = harness.cpu_fields().get("flags")
    if flags is None:
        return "unknown"
    return ", ".join(sorted({"avx512_bf16", "amx_bf16"}.intersection(flags.split()))) or "none"


if __name__ == "__main__":
    mnist_step.main(__doc__, ROWS, LABELS, default=("float32", "bfloat16"))
    print(f"Instructions for bfloat16: {bfloat16_instructions()}.")
