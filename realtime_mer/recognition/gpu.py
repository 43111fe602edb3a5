"""The GPU: whether there is one, and what ONNX Runtime lacks to use it.

ONNX Runtime only notices when it fails, and its messages are for developers. This module checks
first, and answers in one sentence with a remedy.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib.util
import io
import re
import sys
from pathlib import Path

import onnxruntime as ort

PROVIDERS = {"cuda": "CUDAExecutionProvider", "tensorrt": "TensorrtExecutionProvider"}

_DRIVER = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"
# The versions that onnxruntime-gpu 1.31 was built with.
_CUDNN = "libcudnn.so.9"
_TENSORRT = ("libnvinfer.so.10", "libnvinfer_plugin.so.10", "libnvonnxparser.so.10")
_CUDA_REMEDY = "pip install 'onnxruntime-gpu[cuda,cudnn]'"
_TENSORRT_REMEDY = "pip install 'tensorrt-cu13<11'"


def has_gpu(driver: str = _DRIVER) -> bool:
    """Whether NVIDIA's driver is installed, works and counts a GPU."""
    count = ctypes.c_int(0)
    with contextlib.suppress(OSError, AttributeError):
        cuda = ctypes.CDLL(driver)
        if cuda.cuInit(0) == 0:  # success
            cuda.cuDeviceGetCount(ctypes.byref(count))
    return count.value > 0


def obstacle(backend: str) -> str:
    """Why a backend, "cuda" or "tensorrt", cannot be used, with a remedy; empty if it can.

    Loads the libraries from pip's packages, so that ONNX Runtime finds them afterwards.
    """
    if PROVIDERS[backend] not in ort.get_available_providers():
        return "this ONNX Runtime is not built for it (pip install onnxruntime-gpu)"
    if not has_gpu():
        return "no NVIDIA GPU with a working driver is found (nvidia-smi must list it)"
    if missing := missing_cuda():
        return f"{missing} is missing ({_CUDA_REMEDY})"
    if backend == "tensorrt" and (missing := missing_tensorrt()):
        return f"{missing} is missing ({_TENSORRT_REMEDY})"
    return ""


def missing_cuda() -> str:
    """Loads CUDA and cuDNN; returns the name of a library that cannot be loaded, or ""."""
    # preload_dlls prints what it cannot load, except cuDNN, which our networks need.
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.suppress(RuntimeError):
        ort.preload_dlls()
    if failed := re.search(r"Failed to load (\S+?): ", printed.getvalue()):
        return Path(failed[1]).name
    return "" if sys.platform == "win32" or _loads(_CUDNN) else _CUDNN


def missing_tensorrt() -> str:
    """Loads TensorRT; returns the name of a library that cannot be loaded, or ""."""
    package = importlib.util.find_spec("tensorrt_libs")
    folders = (package and package.submodule_search_locations) or []
    for name in _TENSORRT:
        paths = [str(Path(folder) / name) for folder in folders]
        if not any(_loads(path) for path in [*paths, name]):
            return name
    return ""


def _loads(library: str) -> bool:
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True
