"""Real-time spotting and recognition of facial micro-expressions around CausalNet."""

__version__ = "0.1.0"
