"""Faces in a frame: found, followed, registered and kept for a while."""
