"""Spotting: the motion of a face, and the intervals of its micro-expressions."""
