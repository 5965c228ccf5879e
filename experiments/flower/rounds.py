"""A run, round by round: what is common to Flower's server and to the plain loop, and the plain loop."""

from collections.abc import Mapping
from typing import Any

import jax

from experiments.flower import attendance
from experiments.flower.attendance import Fate
from experiments.flower.letters import Down, Up
from experiments.flower.problem import Problem
from experiments.flower.runs import Run
from experiments.flower.server import Server
from sparsetrain import data

EVERY = 2  # rounds between two measurements


class Course:
    """The server's side of a run, with its account.

    Attributes:
      server: the weights are its.
      curves: what was measured, by name.
    """

    def __init__(self, run: Run, dataset: data.Dataset):
        """See class.

        Args:
          run: what to train.
          dataset: images and labels.
        """
        self._run, self.problem = run, Problem(run, dataset)
        self.server = Server(run.how, self.problem.start())
        self.curves: dict[str, list[float]] = {}
        self._counts = dict.fromkeys(("bytes_up", "bytes_down", "asked", "heard", "whole"), 0)

    def letters(self, number: int) -> dict[int, Down]:
        """Client -> what it is sent in this round.

        Bytes are counted for all of them: the server cannot know who will fail.
        """
        run = self._run
        asked = attendance.invited(run.seed, number, run.clients, run.fraction)
        letters = {client: self.server.letter(client) for client in asked}
        self._counts["asked"] += len(letters)
        self._counts["bytes_down"] += sum(letter.size for letter in letters.values())
        self._counts["whole"] += sum(letter.whole for letter in letters.values())
        return letters

    def close(self, number: int, answers: Mapping[int, Up]) -> dict[str, float]:
        """Ends a round, and measures if it is time.

        Args:
          number: of the round.
          answers: of those who were heard; only these bytes are known to the server, and counted.

        Returns:
          What was measured; nothing in most rounds.
        """
        self.server.close(number, answers)
        self._counts["heard"] += len(answers)
        self._counts["bytes_up"] += sum(len(up.frame) for up in answers.values())
        if number % EVERY and number != self._run.rounds:
            return {}
        line = {
            "round": number,
            "test_accuracy": self.problem.accuracy(self.server.weights),
            **self._counts,
        }
        for name, value in line.items():
            self.curves.setdefault(name, []).append(value)
        return line

    def content(self) -> dict[str, Any]:
        """The fields of a result file that are measured."""
        weights = jax.tree.leaves(self.server.weights)
        return {
            "summary": {name: values[-1] for name, values in self.curves.items()},
            "parameters": sum(leaf.size for leaf in weights),
            "examples": [len(part) for part in self.problem.owned],
            "curves": self.curves,
        }


def follow(run: Run, dataset: data.Dataset) -> Course:
    """A whole run in this process, without Flower: what `app.py` must come to.

    Args:
      run: what to train.
      dataset: images and labels.

    Returns:
      Its course to the end.
    """
    course = Course(run, dataset)
    client = course.problem.client()
    kept = dict.fromkeys(range(run.clients), client.fresh())
    for number in range(1, run.rounds + 1):
        answers = {}
        for who, letter in course.letters(number).items():
            fate = attendance.fate(run.seed, number, who, run.dropout)
            if fate is Fate.ABSENT:
                continue
            kept[who], up = client.turn(
                kept[who],
                letter,
                course.problem.batches(who, number),
                number,
                len(course.problem.owned[who]),
            )
            if fate is Fate.ANSWERS:
                answers[who] = up
        course.close(number, answers)
    return course
