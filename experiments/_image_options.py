"""What experiments on images have in common."""

from typing import Any


def check(config: Any) -> None:
    """Checks `data`, `path`, `seeds`, `first_seed` and `epochs` of a config.

    Raises:
        ValueError: A number is too small, or a path is given for data that need none.
    """
    if (
        config.seeds < 1
        or config.first_seed < 0
        or (config.epochs is not None and config.epochs < 1)
    ):
        raise ValueError(
            f"seeds and epochs must be positive and first_seed not negative, but they are "
            f"{config.seeds}, {config.epochs} and {config.first_seed}."
        )
    if config.data == "digits" and config.path is not None:
        raise ValueError(
            f"digits come with the package, but path is {str(config.path)!r}. Leave path out, "
            "or set data to mnist."
        )
