"""Published experiments, one command each: `python -m tfnode.reproduce.<topic>`.

A command writes into `--out`, by default `logs/<topic>`: `results.json` with its settings, the
versions, the device, the commit and every number; `table.md`; and the figures.
"""
