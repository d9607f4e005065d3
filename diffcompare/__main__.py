"""Starts the programs of this package; `python -m diffcompare --help` lists them."""

from diffcompare.commands import main

if __name__ == "__main__":
    raise SystemExit(main())
