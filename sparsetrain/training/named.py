"""Objects by the names and settings that a config gives."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any


def lookup(table: Mapping[str, Any], name: str, field: str) -> Any:
    """Entry of a table, or a ValueError that lists what there is.

    Example:
      >>> lookup({"adam": 1}, "adam", "optimizer.name")
      1
    """
    if name not in table:
        raise ValueError(f"{field}={name!r} is unknown; choose one of {', '.join(sorted(table))}")
    return table[name]


def taken(factory: Callable[..., Any], settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that a factory knows and that are not None.

    Example:
      >>> taken(lambda density, key: None, {"density": 0.1, "key": None, "rank": 2})
      {'density': 0.1}
    """
    known = inspect.signature(factory).parameters
    return {key: value for key, value in settings.items() if key in known and value is not None}


def made(
    table: Mapping[str, Any],
    field: str,
    settings: Mapping[str, Any],
    section: str = "compress",
    *given: Any,
) -> Any:
    """What the factory named by a field of a section makes of the settings it knows.

    Raises:
      ValueError: an unknown name, or a setting out of range or missing.
    """
    name = settings[field]
    factory = lookup(table, name, f"{section}.{field}")
    own = taken(factory, settings)
    missing = [
        f"{section}.{key}"
        for key, parameter in list(inspect.signature(factory).parameters.items())[len(given) :]
        if parameter.default is inspect.Parameter.empty and key not in own
    ]
    if missing:
        raise ValueError(
            f"{section}.{field}={name!r} needs {' and '.join(missing)}: "
            f"add {' '.join(f'--config.{key}=<value>' for key in missing)}"
        )
    return factory(*given, **own)
