"""Edits that turn valid bytes into hostile ones."""

from __future__ import annotations

# An edit: what to do, where (a position, taken modulo the length), and with what.
Edit = tuple[str, int, "int | bytes"]

KINDS = ("flip", "set", "cut", "repeat", "insert", "truncate", "word", "long", "zero")


def edited(data: bytes, edits: list[Edit]) -> bytes:
    """The data after all edits, one after the other."""
    result = bytearray(data)
    for kind, where, what in edits:
        at = where % (len(result) + 1)
        if isinstance(what, bytes):
            result[at:at] = what
        elif kind == "flip" and at < len(result):
            result[at] ^= 1 << what % 8
        elif kind == "set" and at < len(result):
            result[at] = what % 256
        elif kind == "cut":
            del result[at : at + what % 64]
        elif kind == "repeat":
            result[at:at] = result[at : at + what % 256]
        elif kind == "truncate":
            del result[at:]
        elif kind in ("word", "long"):
            size = 2 if kind == "word" else 4
            order = "little" if what & 1 else "big"
            result[at : at + size] = (what % (1 << 8 * size)).to_bytes(size, order)
        elif kind == "zero":
            size = what % 64
            result[at : at + size] = bytes(min(size, len(result) - at))
    return bytes(result)
