"""Codecs of positions: speed in both directions, and bits a position against the entropy bound.

    python -m benchmarks.wire                  N = 25.6M at four densities, on one core; minutes
    python -m benchmarks.wire --quick          a small N, seconds; no claim can rest on it

Times are per position, so that codecs in plain Python can be timed on the first few thousand
positions only: their rows are extrapolated, which a loop with a fixed cost per position allows.
"""

import datetime
import functools
import itertools
import random
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from benchmarks import command, machine, report, timing
from benchmarks.candidate import Candidate
from benchmarks.report import Target
from benchmarks.timing import Effort, Timing
from sparsetrain import wire
from sparsetrain.wire import compiled, truncated_golomb

ENTRIES, QUICK_ENTRIES = 25_600_000, 50_000
DENSITIES = (0.1, 0.01, 0.001, 0.0001)
# Positions that a codec in plain Python is timed on.
SLICE = 5_000
# Sets of positions; a call never repeats the one before.
SETS = 2
BASELINE = "Python"
BYTES_A_POSITION = 4  # of the int32 array that a codec saves sending
TARGETS = tuple(
    Target(f"density {density:g}", f"{direction}, Golomb, numba", BASELINE, 20, 20)
    for density in DENSITIES
    for direction in ("encode", "decode")
)


def encode_by_bits(positions: list[int], b: int) -> bytes:
    """Golomb code, bit by bit.

    Example:
      >>> encode_by_bits([0, 3, 9, 15], 2) == wire.encode_positions(np.array([0, 3, 9, 15]), 2)[0]
      True
    """
    out, byte, filled, before = bytearray(), 0, 0, -1
    for position in positions:
        gap = position - before - 1
        before = position
        bits = [1] * (gap >> b) + [0] + [gap >> shift & 1 for shift in range(b - 1, -1, -1)]
        for bit in bits:
            byte = byte << 1 | bit
            filled += 1
            if filled == 8:
                out.append(byte)
                byte, filled = 0, 0
    if filled:
        out.append(byte << (8 - filled))
    return bytes(out)


def decode_by_bits(stream: bytes, count: int, b: int) -> list[int]:
    """The paper's Algorithm 1, bit by bit.

    Example:
      >>> decode_by_bits(encode_by_bits([0, 3, 9, 15], 2), 4, 2)
      [0, 3, 9, 15]
    """
    bits = [byte >> shift & 1 for byte in stream for shift in range(7, -1, -1)]
    positions = []
    i, j = 0, -1
    for _ in range(count):
        while bits[i]:
            j += 1 << b
            i += 1
        rest = 0
        for bit in bits[i + 1 : i + 1 + b]:
            rest = rest << 1 | bit
        j += rest + 1
        i += b + 1
        positions.append(j)
    return positions


def encode_by_strings(positions: list[int], b: int) -> bytes:
    """The same through a string of 0s and 1s: what Python is quickest at.

    Example:
      >>> encode_by_strings([0, 3, 9, 15], 2) == encode_by_bits([0, 3, 9, 15], 2)
      True
    """
    codes, before, mask, mark = [], -1, (1 << b) - 1, 1 << b
    for position in positions:
        gap = position - before - 1
        before = position
        # The mark keeps leading zeros; its own 1 is cut off together with "0b".
        codes.append("1" * (gap >> b) + "0" + bin(gap & mask | mark)[3:])
    bits = "".join(codes)
    size = -(-len(bits) // 8)
    return int(bits.ljust(8 * size, "0") or "0", 2).to_bytes(size)


def decode_by_strings(stream: bytes, count: int, b: int) -> list[int]:
    """The same through a string of 0s and 1s.

    Example:
      >>> decode_by_strings(encode_by_strings([0, 3, 9, 15], 2), 4, 2)
      [0, 3, 9, 15]
    """
    bits = bin(int.from_bytes(b"\1" + stream))[3:]
    positions, begin, position = [], 0, -1
    for _ in range(count):
        end = bits.find("0", begin)
        position += (end - begin << b) + int(bits[end : end + 1 + b], 2) + 1
        begin = end + 1 + b
        positions.append(position)
    return positions


def samples(entries: int, density: float) -> list[np.ndarray]:
    """Sets of int32 positions of which every entry is one with the same probability."""
    sets = []
    for seed in range(SETS):
        draw = np.random.default_rng(seed).geometric
        # Enough draws to pass the last entry in all but one of 10^9 cases.
        mean = entries * density
        positions = np.cumsum(draw(density, int(mean + 6 * mean**0.5 + 20))) - 1
        sets.append(positions[positions < entries].astype(np.int32))
    return sets


def candidates(
    entries: int, density: float
) -> tuple[list[Candidate], dict[str, int], dict[str, Any]]:
    """What is timed at one density.

    Returns:
      Candidates; name -> positions that a call handles; bits a position of each code.
    """
    sets = samples(entries, density)
    count = min(len(each) for each in sets)
    sets = [each[:count] for each in sets]
    b, m = wire.golomb_parameter(density), truncated_golomb.modulus(density)
    found: list[Candidate] = []
    units: dict[str, int] = {}

    def add(name: str, run: Callable[[int], Any], positions: int = count, **kind: Any) -> None:
        found.append(Candidate(name, run, name.split(",")[0], **kind))
        units[name] = positions

    few = [each[:SLICE].tolist() for each in sets]
    slices = [encode_by_bits(each, b) for each in few]
    for how, encoder, decoder in (
        ("bits", encode_by_bits, decode_by_bits),
        ("strings", encode_by_strings, decode_by_strings),
    ):
        if [decoder(encoder(each, b), len(each), b) for each in few] != few:
            raise RuntimeError(f"Python, {how}: the positions do not come back")
        encode_few = functools.partial(_on_slice, encoder, few, b)
        decode_few = functools.partial(_off_slice, decoder, slices, len(few[0]), b)
        few_units = len(few[0])
        add(f"encode, Golomb, Python {how}", encode_few, few_units, baseline=BASELINE)
        add(f"decode, Golomb, Python {how}", decode_few, few_units, baseline=BASELINE)
    sizes: dict[str, Any] = {"entropy bound": {"bits": wire.entropy_bits(density)}}
    engines = ["numpy", "numba"] if compiled.is_installed() else ["numpy"]
    codes = {
        "Golomb": (wire.encode_positions, wire.decode_positions, b, wire.expected_bits(density)),
        "truncated Golomb": (
            truncated_golomb.encode_positions,
            truncated_golomb.decode_positions,
            m,
            truncated_golomb.expected_bits(density),
        ),
    }
    for code, (encode, decode, parameter, expected) in codes.items():
        streams = [encode(each, parameter) for each in sets]
        bits = sum(length for _, length in streams) / (SETS * count)
        sizes[code] = {
            "parameter": parameter,
            "bits": bits,
            "expected": expected,
            "over_bound": bits / wire.entropy_bits(density) - 1,
        }
        for engine in engines:
            run = _Runs(encode, decode, parameter, entries, engine, sets, streams)
            run.check()
            label = {"numpy": "NumPy"}.get(engine, engine)
            add(f"encode, {code}, {label}", run.encode, against=(BASELINE,))
            add(f"decode, {code}, {label}", run.decode, against=(BASELINE,))
    return found, units, sizes


def _on_slice(encoder: Any, few: list[list[int]], b: int, number: int) -> Any:
    return encoder(few[number % SETS], b)


def _off_slice(decoder: Any, slices: list[bytes], count: int, b: int, number: int) -> Any:
    return decoder(slices[number % SETS], count, b)


class _Runs:
    """One code on one engine."""

    def __init__(
        self,
        encode: Callable[..., tuple[bytes, int]],
        decode: Callable[..., np.ndarray],
        parameter: int,
        entries: int,
        engine: str,
        sets: list[np.ndarray],
        streams: list[tuple[bytes, int]],
    ):
        self._encode, self._decode, self._parameter = encode, decode, parameter
        self._entries, self._engine, self._sets, self._streams = entries, engine, sets, streams

    def encode(self, number: int) -> Any:
        """Positions to bytes."""
        return self._encode(self._sets[number % SETS], self._parameter, engine=self._engine)

    def decode(self, number: int) -> Any:
        """Bytes to positions."""
        stream, _ = self._streams[number % SETS]
        count = len(self._sets[number % SETS])
        return self._decode(stream, count, self._parameter, self._entries, engine=self._engine)

    def check(self) -> None:
        """Refuses to time a codec that errs."""
        for number in range(SETS):
            if self.encode(number) != self._streams[number]:
                raise RuntimeError(f"{self._engine}: another stream than the default engine's")
            if not np.array_equal(self.decode(number), self._sets[number]):
                raise RuntimeError(f"{self._engine}: the positions do not come back")


def measure(
    functions: Mapping[str, Callable[[int], Any]], effort: Effort, units: Mapping[str, int]
) -> dict[str, Timing]:
    """As `timing.measure`, in processor time.

    A codec runs on one thread and waits for nothing, so this is the time that it takes on a core of
    its own, also where other programs want the core.
    """
    numbers = itertools.count()

    def call(name: str) -> float:
        number = next(numbers)
        start = time.process_time()
        functions[name](number)
        return (time.process_time() - start) / units[name]

    samples_of: dict[str, list[float]] = {name: [] for name in functions}
    calls = {}
    for name in functions:
        call(name)  # compiles
        once = max(1e-7, call(name) * units[name])
        calls[name] = int(min(effort.most_calls, max(1, effort.block_s / once)))
    order, shuffler = list(functions), random.Random(0)
    for _ in range(effort.rounds):
        shuffler.shuffle(order)
        for name in order:
            call(name)  # brings caches and buffers back
            samples_of[name] += [call(name) for _ in range(calls[name])]
    times = {}
    for name, each in samples_of.items():
        median, p10, p90 = (float(q) for q in np.percentile(each, [50, 10, 90]))
        times[name] = Timing(median, p10, p90, len(each))
    return times


def run(quick: bool = False) -> dict[str, Any]:
    """Times all codecs and prints their tables.

    Args:
      quick: few positions and few calls.

    Returns:
      The record that is written as JSON.
    """
    entries = QUICK_ENTRIES if quick else ENTRIES
    effort = timing.QUICK if quick else timing.Effort(rounds=10, block_s=0.1)
    records: list[dict[str, Any]] = []
    sizes: dict[str, Any] = {}
    for density in DENSITIES:
        title = f"density {density:g}"
        found, units, sizes[title] = candidates(entries, density)
        functions = {candidate.name: candidate.run for candidate in found}
        times = measure(functions, effort, units)
        rows = report.rows(title, found, times)
        for row in rows:
            row["positions_per_call"] = units[row["name"]]
            row["mb_per_s"] = BYTES_A_POSITION / row["median_us"]
            row["extrapolated"] = units[row["name"]] < max(units.values())
        records += rows
        print(f"\n## {title}, N={entries}\n{_table(rows)}\n{_sizes(sizes[title])}", flush=True)
    results = [] if quick else report.check(TARGETS, records)
    if results:
        print(f"\n## Targets\n{report.verdicts(results)}", flush=True)
    return {
        "benchmark": "wire",
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "quick": quick,
        "machine": machine.describe(),
        "effort": effort._asdict(),
        "clock": "processor time",
        "entries": entries,
        "targets": results,
        "sizes": sizes,
        "rows": records,
    }


def _table(rows: list[dict[str, Any]]) -> str:
    lines = [f"{'':32s} {'ns/position':>12s} {'MB/s':>8s} {'x ' + BASELINE:>9s}"]
    for row in rows:
        ratio = row["speedup"].get(BASELINE)
        remark = "" if ratio is None else f"{ratio:.1f}"
        if row["extrapolated"]:
            remark = f"extrapolated from {row['positions_per_call']} positions"
        cells = f"{row['median_us'] * 1e3:12.1f} {row['mb_per_s']:8.1f} {remark:>9s}"
        lines.append(f"{row['name']:32s} {cells}")
    return "\n".join(lines)


def _sizes(sizes: dict[str, Any]) -> str:
    cells = []
    for name, size in sizes.items():
        over = f" ({size['over_bound']:+.2%})" if "over_bound" in size else ""
        cells.append(f"{name} {size['bits']:.4f}{over}")
    return "bits a position: " + ", ".join(cells)


if __name__ == "__main__":
    command.main(__doc__, run, "wire_cpu.json")
