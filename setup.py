"""Packaging: the top-level folders `serving/` and `cli/` install as `keras_privpart.serving` and `keras_privpart.cli`."""

import re
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).parent
VERSION = re.search(r'^__version__ = "(.+)"$', (ROOT / "keras_privpart/version.py").read_text(), re.M).group(1)

# Only these two top-level folders are remapped; everything else at the top (tests, benchmarks, docs) stays out of the wheel.
REMAPPED = {"keras_privpart.serving": "serving", "keras_privpart.cli": "cli"}

SUBPACKAGES = [f"{name}.{sub}" for name, folder in REMAPPED.items() for sub in find_packages(folder)]

EXTRAS = {
    "certs": ["cryptography>=42"],
    "litert": ["ai-edge-litert>=2.0"],
    "metrics": ["prometheus_client>=0.20"],
    "onnx": ["onnx>=1.17", "onnxruntime>=1.20", "tf2onnx>=1.17"],
    # tensorflow-model-optimization imports distutils without declaring it; from Python 3.12 on only setuptools has it.
    "optimize": ["setuptools", "tensorflow-model-optimization>=0.8", "tf_keras>=2.18"],
    "parquet": ["pyarrow>=15"],
    "report": ["jinja2>=3.1", "matplotlib>=3.8"],
    "sweep": ["distributed>=2024.8"],
    "tensorboard": ["tensorboard>=2.18"],
}
EXTRAS["all"] = sorted({requirement for extra in EXTRAS.values() for requirement in extra})  # whatever a user may want
EXTRAS["docs"] = ["mkdocs>=1.6,<2", "mkdocstrings[python]>=0.27"]
EXTRAS["dev"] = [
    *(
        requirement
        for name in ("certs", "litert", "metrics", "onnx", "optimize", "parquet", "report", "sweep", "docs")
        for requirement in EXTRAS[name]
    ),
    "build>=1.2",
    "hypothesis>=6.100",
    "ipykernel>=6.29",
    "kubernetes-validate>=1.31",
    "mypy>=1.10",
    "nbclient>=0.10",
    "opentelemetry-sdk>=1.25",
    "playwright>=1.40",
    "pytest>=8",
    "pytest-xdist>=3.7",
    "ruff>=0.6",
    "scikit-image>=0.24",
    "twine>=6.1",
    "xds-protos>=1.66",
]

setup(
    name="keras_privpart",
    version=VERSION,
    description="Privacy partitioning for Keras: cut a model in two, train it against adversaries, audit, export, serve.",
    long_description=(ROOT / "README.md").read_text(),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    license_files=["LICENSE"],
    python_requires=">=3.10,<3.14",
    packages=[*find_packages(include=["keras_privpart", "keras_privpart.*"]), *REMAPPED, *SUBPACKAGES],
    package_dir=REMAPPED,
    package_data={
        "keras_privpart.cli.playground": ["*.html", "*.js", "*.css"],
        "keras_privpart": ["py.typed"],
        "keras_privpart.auditing.reporting": ["*.html"],
        "keras_privpart.exporting.web": ["browser/*"],
        "keras_privpart.serving": ["deploy/*", "deploy/open-inference/*"],
    },
    install_requires=[
        "tensorflow>=2.18,<2.22",
        "keras>=3.12,<4",
        "tensorflow-datasets>=4.9.7",
        "importlib_resources",  # tensorflow-datasets imports it without declaring it (its issue 11212)
        "tensorflow-serving-api>=2.18",
        "click>=8.1.7",
        "grpcio>=1.66",
        "numpy>=1.26",
        "protobuf>=4.25",
        "scikit-learn>=1.7",
        "scipy>=1.11",
        "threadpoolctl>=3.1",
        "tqdm>=4.66",
    ],
    extras_require=EXTRAS,
    entry_points={"console_scripts": ["privpart-keras = keras_privpart.cli.main:main"]},
    classifiers=[
        "Development Status :: 3 - Alpha",
        "Intended Audience :: Developers",
        "Intended Audience :: Science/Research",
        "Operating System :: POSIX :: Linux",
        "Programming Language :: Python :: 3",
        "Programming Language :: Python :: 3 :: Only",
        "Programming Language :: Python :: 3.10",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
        "Topic :: Security",
        "Typing :: Typed",
    ],
)
