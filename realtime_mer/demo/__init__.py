"""The demo: a clip with known micro-expressions, made without a camera."""
