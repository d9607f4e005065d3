"""`python -m experiments` runs every experiment; see the docstring of the package."""

from experiments._runner import run_module

if __name__ == "__main__":
    raise SystemExit(run_module())
