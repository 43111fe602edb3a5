"""Spotters with the delivered network and another card."""

import json
import shutil
from pathlib import Path
from typing import Any

from realtime_mer.model_file import SPOTTER
from realtime_mer.spotting.visibility import FEATURES, PARTS

# On a calm face, limits of about 0.8, 1 and 2.5 px; they rise with the face's own motion.
VISIBILITY = {
    "parts": PARTS,
    "features": FEATURES,
    "slope": [4.0, 4.0, 4.0],
    "offset": [-1.0, -2.0, -6.0],
    "weights": [[1.0 if name == "own now" else 0.0 for name in FEATURES]] * len(PARTS),
    "most_found": [0.95, 0.95, 0.95],
    "range_px": [0.3, 8.0],
}


def spotter_with(folder: Path, **changes: Any) -> Path:
    """The delivered spotter with changes to its card; None removes an entry."""
    path = folder / "spotter.onnx"
    shutil.copy(SPOTTER, path)
    card = json.loads(SPOTTER.with_suffix(".json").read_text()) | changes
    card = {key: value for key, value in card.items() if value is not None}
    path.with_suffix(".json").write_text(json.dumps(card))
    return path
