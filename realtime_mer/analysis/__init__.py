"""The chain without threads: from a frame to everything that is known about it."""
