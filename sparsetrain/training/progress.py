"""What a person sees while a run goes on: a bar on a terminal, plain lines elsewhere."""

import sys
from collections.abc import Mapping
from typing import Any, Protocol, TextIO


class Progress(Protocol):
    """Follows one run."""

    def start(self, name: str, step: int, total: int) -> None:
        """A run of `total` steps begins, or continues, at `step`."""
        ...

    def advance(self, step: int, metrics: Mapping[str, float | None] | None = None) -> None:
        """`step` steps are done; `metrics` come with an evaluation."""
        ...

    def note(self, text: str) -> None:
        """Something the person should know, such as a checkpoint that had to be skipped."""
        ...

    def stop(self) -> None:
        """The run is over, or failed."""
        ...


def sentence(metrics: Mapping[str, float | None]) -> str:
    """Metrics in one short line.

    Example:
      >>> sentence({"train_loss": 0.25, "gradient_angle": None})
      'train_loss 0.25'
    """
    return ", ".join(f"{name} {value:.4g}" for name, value in metrics.items() if value is not None)


class Silent:
    """Shows nothing."""

    def start(self, name: str, step: int, total: int) -> None:
        del name, step, total

    def advance(self, step: int, metrics: Mapping[str, float | None] | None = None) -> None:
        del step, metrics

    def note(self, text: str) -> None:
        del text

    def stop(self) -> None:
        return None


class Lines(Silent):
    """One plain line per evaluation, for logs and pipes.

    Example:
      >>> lines = Lines(sys.stdout)
      >>> lines.start("demo", 0, 20)
      demo: step 0 of 20
      >>> lines.advance(10, {"test_accuracy": 0.5})
      demo: step 10 of 20: test_accuracy 0.5
    """

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stdout
        self._name, self._total = "run", 0

    def start(self, name: str, step: int, total: int) -> None:
        self._name, self._total = name, total
        self._print(f"{name}: step {step} of {total}")

    def advance(self, step: int, metrics: Mapping[str, float | None] | None = None) -> None:
        if metrics is not None:
            self._print(f"{self._name}: step {step} of {self._total}: {sentence(metrics)}")

    def note(self, text: str) -> None:
        self._print(f"{self._name}: {text}")

    def _print(self, text: str) -> None:
        print(text, file=self._stream, flush=True)


class Bar(Silent):
    """A `rich` progress bar with the latest metrics beside it."""

    SHOWN = ("train_loss", "gradient_angle")

    def __init__(self, stream: TextIO | None = None) -> None:
        from rich import console, progress

        self._bar = progress.Progress(
            progress.TextColumn("{task.description}"),
            progress.BarColumn(),
            progress.MofNCompleteColumn(),
            progress.TimeRemainingColumn(),
            progress.TextColumn("{task.fields[metrics]}"),
            console=console.Console(file=stream),
        )
        self._task: Any = None

    def start(self, name: str, step: int, total: int) -> None:
        self._bar.start()
        self._task = self._bar.add_task(name, completed=step, total=total, metrics="")

    def advance(self, step: int, metrics: Mapping[str, float | None] | None = None) -> None:
        self._bar.update(self._task, completed=step)
        if metrics is not None:
            names = [n for n in metrics if n in self.SHOWN or n.startswith("validation_")]
            shown = sentence({name: metrics[name] for name in names})
            self._bar.update(self._task, metrics=shown)

    def note(self, text: str) -> None:
        self._bar.console.print(text, markup=False, highlight=False)

    def stop(self) -> None:
        self._bar.stop()


def choose(stream: TextIO | None = None) -> Progress:
    """A bar if the stream (standard output by default) is a terminal, else plain lines."""
    stream = stream or sys.stdout
    return Bar(stream) if stream.isatty() else Lines(stream)
