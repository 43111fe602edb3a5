"""What pyproject.toml cannot say: the weights of models/ are a package inside realtime_mer."""

from setuptools import find_packages, setup

setup(
    packages=[*find_packages(include=["realtime_mer", "realtime_mer.*"]), "realtime_mer.weights"],
    package_dir={"realtime_mer.weights": "models/weights"},
)
