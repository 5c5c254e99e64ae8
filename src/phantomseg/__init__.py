"""Train on phantoms, segment the real thing."""

__version__ = "0.1.0"
