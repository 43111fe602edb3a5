"""What the runtime's flow finds of a motion on a given face.

Flow shrinks and blurs a motion, differently where skin has texture and where it has none. By how
much is measured on a picture of the face itself, moved by the motion.
"""

from __future__ import annotations

import cv2
import numpy as np

from realtime_mer.spotting.cell_flow import FACE_GRID, CellFlow
from realtime_mer.spotting.motion import FACE_CELLS, RigidMotion, region_means, texture_trust

# Displacement at which a response is measured; smaller and larger ones are taken as proportional.
# In the middle of what a micro-expression does, 0.8 to 4 px.
_PEAK_PX = 2.0


class FaceResponse:
    """Measures responses on one face.

    Args:
        face: (224, 224) uint8, a canonical face.
        clean: The same without sensor noise, which does not move with the skin.
        landmarks: (478, 3) of the canonical face.
    """

    def __init__(self, face: np.ndarray, clean: np.ndarray, landmarks: np.ndarray) -> None:
        self._flow, self._clean = CellFlow(face), clean
        self._rigid = RigidMotion(landmarks, texture_trust(face))
        self._start = self._flow(clean)
        self._landmarks = landmarks

    def __call__(self, field: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The response to a field (224, 224, 2) whose largest displacement is about 1.

        Returns:
            Displacement of the regions (18, 2) and of the face's cells (FACE_CELLS, 2), float32.
        """
        regions, cells = self.of(self.moved(_PEAK_PX * field))
        return regions / _PEAK_PX, cells / _PEAK_PX

    def moved(self, field: np.ndarray) -> np.ndarray:
        """The clean face (224, 224) with its skin moved by a field (224, 224, 2) in pixels."""
        return cv2.remap(  # type: ignore[call-overload]  # the second map is optional
            self._clean,
            FACE_GRID - field.astype(np.float32),
            None,
            cv2.INTER_CUBIC,
            borderMode=cv2.BORDER_REPLICATE,
        )

    def of(self, picture: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The displacements that flow finds between the clean face and a picture (224, 224) of it.

        Returns:
            As of a call.
        """
        flow, _ = self._rigid.remove(self._flow(picture) - self._start)
        regions, _ = region_means(self._landmarks, self._rigid.weights, flow)
        return regions, flow[FACE_CELLS].astype(np.float32)
