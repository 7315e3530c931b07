"""The packages of vaerl: those below vaerl/, and the folders at the top as subpackages.

Then the native update, one library for each instruction set. They are optional: without a compiler
that knows C++20 and vector types the installation goes on without them.
"""

import platform
from pathlib import Path

from setuptools import Extension, find_packages, setup

FOLDERS = ("agents", "envs", "experiments")
LINKS = [f"vaerl.{folder}*" for folder in FOLDERS]

AVX2 = ["-mavx2", "-mfma"]
AVX512 = [*AVX2, "-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl", "-mprefer-vector-width=512"]
VARIANTS = {"base": (4, [])}  # name → floats in a vector, flags
if platform.machine().lower() in ("x86_64", "amd64"):
    VARIANTS |= {"avx2": (8, AVX2), "avx512": (16, AVX512)}
SOURCES = [
    f"vaerl/native/{name}.cpp" for name in ("bfloat16", "latent", "ppo", "product", "sac", "sample")
]
HEADERS = sorted(str(path) for path in Path("vaerl/native").glob("*.h"))
OPTIONS = ["-std=c++20", "-O3", "-fno-math-errno", "-fno-trapping-math", "-Wno-psabi", "-pthread"]

setup(
    packages=[
        *find_packages(include=["vaerl*"], exclude=LINKS),
        *(f"vaerl.{folder}" for folder in FOLDERS),
        *(f"vaerl.{folder}.{name}" for folder in FOLDERS for name in find_packages(folder)),
    ],
    ext_modules=[
        Extension(
            f"vaerl.native._{name}",
            SOURCES,
            depends=HEADERS,
            extra_compile_args=[*OPTIONS, f"-DLANES={lanes}", *flags],
            extra_link_args=["-pthread"],
            optional=True,
        )
        for name, (lanes, flags) in VARIANTS.items()
    ],
)
