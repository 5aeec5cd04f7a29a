"""The laboratory: an experiment from its settings to a run, and commands that make many."""
