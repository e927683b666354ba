"""dnicomm: asynchronous agents that talk in activations and learn from synthetic gradients."""

__version__ = "0.1.0"
