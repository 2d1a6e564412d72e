"""Install the references of the regression checks, results/reference/*.csv, as bench/references.

Everything else about the package is in pyproject.toml.
"""

from setuptools import find_packages, setup

REFERENCES = "bench.references"

setup(
    packages=[*find_packages(include=["bench*", "models*", "plots*", "solvers*"]), REFERENCES],
    package_dir={REFERENCES: "results/reference"},
    package_data={REFERENCES: ["*.csv"], "bench": ["help.txt"], "plots.report": ["page.*"]},
)
