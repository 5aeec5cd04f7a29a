"""The version of tfnode."""

__version__ = "0.1.0"
