"""Trains a model: `python train.py --model=ode`. See `python train.py --help`."""

import sys

from tfnode.train import main

if __name__ == "__main__":
    sys.exit(main(prog=sys.argv[0]))
