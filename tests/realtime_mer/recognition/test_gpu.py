"""Why a GPU cannot be used, with a remedy that fits this ONNX Runtime."""

import importlib.metadata
import re
from pathlib import Path

import onnxruntime as ort
import pytest

from realtime_mer.recognition import gpu

CAPI = Path(ort.__file__).parent / "capi"


@pytest.mark.parametrize("driver", ["libno_such_driver.so.1", "libc.so.6"])
def test_without_a_driver_there_is_no_gpu(driver):
    assert gpu.has_gpu(driver) is False


@pytest.mark.parametrize("backend", ["cuda", "tensorrt"])
@pytest.mark.parametrize(
    ("present", "cause", "remedy"),
    [
        ({"providers"}, "no NVIDIA GPU", "nvidia-smi"),
        (set(), "not built for it", "pip install onnxruntime-gpu"),
        ({"providers", "gpu"}, "libcublas.so.13 is missing", "[cuda,cudnn]"),
    ],
)
def test_the_first_missing_part_is_named(monkeypatch, backend, present, cause, remedy):
    available = [*gpu.PROVIDERS.values(), "CPUExecutionProvider"] if "providers" in present else []
    monkeypatch.setattr(ort, "get_available_providers", lambda: available)
    monkeypatch.setattr(gpu, "has_gpu", lambda: "gpu" in present)
    monkeypatch.setattr(gpu, "missing_cuda", lambda: "libcublas.so.13")
    reason = gpu.obstacle(backend)
    assert cause in reason
    assert remedy in reason
    assert "\n" not in reason


def test_tensorrt_needs_more_than_cuda(monkeypatch):
    monkeypatch.setattr(gpu, "has_gpu", lambda: True)
    monkeypatch.setattr(gpu, "missing_cuda", lambda: "")
    monkeypatch.setattr(gpu, "missing_tensorrt", lambda: "libnvinfer.so.10")
    assert gpu.obstacle("cuda") == ""
    assert gpu.obstacle("tensorrt").startswith("libnvinfer.so.10 is missing (pip install")


def test_missing_libraries_of_this_machine_are_names_or_empty(capfd):
    for missing in (gpu.missing_cuda(), gpu.missing_tensorrt()):
        assert missing == "" or re.fullmatch(r"[\w.]+\.so\.\d+", missing)
    assert capfd.readouterr() == ("", "")


def test_libraries_in_pips_packages_are_tried_first(monkeypatch, tmp_path):
    package = tmp_path / "tensorrt_libs"
    package.mkdir()
    (package / "__init__.py").touch()
    monkeypatch.syspath_prepend(str(tmp_path))
    asked = []

    def loads(library: str) -> bool:
        asked.append(library)
        return library.startswith(str(package)) and "parser" not in library

    monkeypatch.setattr(gpu, "_loads", loads)
    assert gpu.missing_tensorrt() == "libnvonnxparser.so.10"
    assert asked[0] == str(package / "libnvinfer.so.10")
    assert asked[-1] == "libnvonnxparser.so.10"  # at last, the system's


def test_remedies_and_versions_are_those_of_the_installed_onnx_runtime():
    extras = importlib.metadata.metadata("onnxruntime-gpu").get_all("Provides-Extra")
    assert {"cuda", "cudnn"} <= set(extras)
    needs = importlib.metadata.requires("onnxruntime-gpu")
    cudnn = next(need for need in needs if "cudnn" in need)
    assert f"~={gpu._CUDNN.rsplit('.')[-1]}." in cudnn
    # It needs CUDA 13, and so a TensorRT for CUDA 13.
    assert "cu13" in cudnn
    assert "cu13" in gpu._TENSORRT_REMEDY
    provider = (CAPI / "libonnxruntime_providers_tensorrt.so").read_bytes()
    for name in gpu._TENSORRT:
        assert name.encode() + b"\0" in provider
