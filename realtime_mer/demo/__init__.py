"""A clip with known micro-expressions, made without a camera, and how it was read."""
