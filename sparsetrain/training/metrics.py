"""Where numbers go: a line of JSON each always, TensorBoard events where it is installed."""

import importlib.util
import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol


class Writer(Protocol):
    """Takes the metrics of one evaluation at a time."""

    def write(self, step: int, metrics: Mapping[str, float | None]) -> None:
        """Records the metrics of a step; they are safe on disk when this returns."""
        ...

    def close(self) -> None:
        """Releases files."""
        ...


class JsonLines:
    """`metrics.jsonl`: one object a line, with its step; a number that is not finite becomes null.

    Opening an existing file cuts it back to the step a run continues from, and drops the torn last
    line that a killed process may leave.

    Args:
      path: the file.
      resume_step: lines with a later step are dropped.
      write_file: whether the file is written; of several processes of a job only one should.

    Example:
      >>> import tempfile
      >>> path = Path(tempfile.mkdtemp()) / "metrics.jsonl"
      >>> JsonLines(path).write(1, {"loss": 0.5})
      >>> JsonLines(path).write(2, {"loss": 0.25})
      >>> JsonLines(path, resume_step=1).history
      [{'step': 1, 'loss': 0.5}]
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        resume_step: int | None = None,
        write_file: bool = True,
    ) -> None:
        self.path, self._write_file = Path(path), write_file
        self.history = [
            record
            for record in read(self.path)
            if resume_step is None or record["step"] <= resume_step
        ]
        if write_file:
            text = "".join(json.dumps(record) + "\n" for record in self.history)
            replace_text(self.path, text)

    def write(self, step: int, metrics: Mapping[str, float | None]) -> None:
        record = {"step": step} | {name: finite(value) for name, value in metrics.items()}
        self.history.append(record)
        if not self._write_file:
            return
        with self.path.open("a") as file:
            file.write(json.dumps(record) + "\n")
            file.flush()
            os.fsync(file.fileno())

    def close(self) -> None:
        return None


class TensorBoard:
    """Scalars as TensorBoard events, written without TensorFlow.

    Args:
      directory: folder of the event files; a resumed run adds one, and TensorBoard hides the events
        of the old one behind the restart.
    """

    def __init__(self, directory: str | os.PathLike[str]) -> None:
        # `flax.metrics.tensorboard` and `clu.metric_writers` import TensorFlow; this one does not.
        from tensorboard.summary import Writer as EventWriter

        self._events = EventWriter(os.fspath(directory))

    def write(self, step: int, metrics: Mapping[str, float | None]) -> None:
        for name, value in metrics.items():
            if value is not None:
                self._events.add_scalar(name, value, step)
        self._events.flush()

    def close(self) -> None:
        self._events.close()


def has_tensorboard() -> bool:
    """Whether TensorBoard is installed."""
    return importlib.util.find_spec("tensorboard") is not None


def finite(value: float | None) -> float | None:
    """None in the place of NaN and infinities, which JSON does not know."""
    return value if value is None or math.isfinite(value) else None


def read(path: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """Whole lines of a `metrics.jsonl`; no file counts as none."""
    records = []
    if Path(path).exists():
        for line in Path(path).read_text().splitlines():
            try:
                records.append(json.loads(line))
            except json.JSONDecodeError:
                break  # The line a killed process was writing; nothing whole follows it.
    return records


def replace_text(path: Path, text: str) -> None:
    """Writes a file so that a kill at any moment leaves the old or the new text, never a part."""
    temporary = path.with_name(path.name + ".tmp")
    with temporary.open("w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
