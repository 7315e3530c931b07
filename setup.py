"""The packages of vaerl: those below vaerl/, and the folders at the top as subpackages."""

from setuptools import find_packages, setup

FOLDERS = ("agents", "envs", "experiments")
LINKS = [f"vaerl.{folder}*" for folder in FOLDERS]

setup(
    packages=[
        *find_packages(include=["vaerl*"], exclude=LINKS),
        *(f"vaerl.{folder}" for folder in FOLDERS),
        *(f"vaerl.{folder}.{name}" for folder in FOLDERS for name in find_packages(folder)),
    ]
)
