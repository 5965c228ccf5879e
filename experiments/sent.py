"""What a run with a compressed exchange has sent, in words: totals of one worker."""

from collections.abc import Mapping
from typing import Any

_PREFIXES = {-3: "n", -2: "µ", -1: "m", 0: "", 1: "k", 2: "M", 3: "G", 4: "T", 5: "P"}


def has_sent(fields: Mapping[str, Any]) -> bool:
    """Whether the run had a compressed exchange, by the fields of its summary."""
    return fields.get("bits_sent") is not None


def power(number: float) -> int:
    """Power of 1000 whose prefix leaves one to three digits of a number before the point.

    Example:
      >>> power(1234567), power(0.004), power(999_999)      # 999,999 is 1.00 M and not 1000 k.
      (2, -1, 2)
    """
    found = 0
    while found > min(_PREFIXES) and 0 < abs(number) / 1000.0**found < 1:
        found -= 1
    while found < max(_PREFIXES) and float(f"{abs(number) / 1000.0**found:.3g}") >= 1000:
        found += 1
    return found


def prefix(power: int) -> str:
    """Decimal prefix of a power of 1000.

    Example:
      >>> prefix(2), prefix(-1)
      ('M', 'm')
    """
    return _PREFIXES[power]


def amount(number: float, unit: str) -> str:
    """A number in a unit with a decimal prefix, and exactly.

    Args:
      number: of bits or bytes, at least 0; a mean over runs is rounded to a whole one.
      unit: its name without prefix, such as "bit" or "B".

    Returns:
      Three digits and the prefix, then the number itself where the prefix has taken something away.

    Example:
      >>> amount(1234567, "bit"), amount(12, "B")
      ('1.23 Mbit (1,234,567)', '12 B')
    """
    whole = round(number)
    if whole < 1000:
        return f"{whole} {unit}"
    thousands = power(whole)
    scaled = whole / 1000.0**thousands
    digits = max(0, 3 - len(str(int(float(f"{scaled:.3g}")))))
    return f"{scaled:.{digits}f} {prefix(thousands)}{unit} ({whole:,})"


def ratio(number: float | None) -> str:
    """A compression ratio; "-" while nothing has been sent, when there is none.

    Example:
      >>> ratio(123.456), ratio(None)
      ('123.5', '-')
    """
    return "-" if number is None else f"{number:,.1f}"


def texts(fields: Mapping[str, Any]) -> list[str]:
    """Payload bits, bytes on the wire, bits of a dense exchange, and compression ratio.

    Args:
      fields: of a run's summary, or their means over runs.

    Returns:
      Four texts; "-" for what is not known.
    """
    amounts = (("bits_sent", "bit"), ("wire_bytes", "B"), ("dense_bits", "bit"))
    known = [
        "-" if fields.get(name) is None else amount(fields[name], unit) for name, unit in amounts
    ]
    return [*known, ratio(fields.get("compression_ratio"))]


def sentence(fields: Mapping[str, Any]) -> str:
    """The same as one line.

    Example:
      >>> sentence({"bits_sent": 640, "wire_bytes": 98, "dense_bits": 64000, "compression_ratio": 100})
      'sent 640 bit of payload, 98 B on the wire, 64.0 kbit (64,000) if dense: compression ratio 100.0'
    """
    bits, wire, dense, times = texts(fields)
    return (
        f"sent {bits} of payload, {wire} on the wire, {dense} if dense: compression ratio {times}"
    )
