"""What all processes of a job must share, compared before the first step.

Two workers with other configs or versions would train on without an error, or hang in a collective
that one of them compiled otherwise. The comparison says instead who has what.
"""

import itertools
import json
import platform
import time
from collections.abc import Mapping
from typing import Any

import jax
import jaxlib
import numpy as np

# No public name gives the key-value store of the processes; orbax takes it from here too.
from jax._src import distributed

import sparsetrain

_calls = itertools.count()


class Disagreement(ValueError):
    """The processes of a job differ in what they should share, or some of them did not answer."""


def versions() -> dict[str, str]:
    """Versions of what has to be the same in all processes.

    Returns:
      Name -> version of python, jax, jaxlib, numpy and sparsetrain.

    Example:
      >>> list(versions())
      ['python', 'jax', 'jaxlib', 'numpy', 'sparsetrain']
    """
    packages = (jax, jaxlib, np, sparsetrain)
    found = {package.__name__: package.__version__ for package in packages}
    return {"python": platform.python_version()} | found


def check_agreement(facts: Mapping[str, Any], seconds: float = 40) -> None:
    """Compares facts of all processes; either all return or all raise the same error.

    The facts go through the key-value store of `jax.distributed`, not through a collective: other
    versions may compile other collectives, and this wait has an end if a process dies. Process 0
    compares and tells. Every process has to call it, as often as the others.

    Args:
      facts: name -> anything with a stable `repr`, such as `versions()` and the fields of a config.
      seconds: how long to wait for the slowest process.

    Raises:
      Disagreement: names each difference and which process has which value, or the processes that
        did not answer.

    Example:
      >>> check_agreement(versions() | {"config.seed": 0})  # One process agrees with itself.
    """
    state = distributed.global_state
    client = state.client
    if client is None or state.num_processes == 1:
        return
    call = f"sparsetrain/agreement/{next(_calls)}"
    deadline = time.monotonic() + seconds

    def left() -> int:
        return max(1, round(1000 * (deadline - time.monotonic())))

    mine = {name: repr(value) for name, value in facts.items()}
    client.key_value_set(f"{call}/{state.process_id}", json.dumps(mine))
    if state.process_id == 0:
        answers: list[dict[str, str] | None] = []
        for index in range(state.num_processes):
            try:
                answers.append(json.loads(client.blocking_key_value_get(f"{call}/{index}", left())))
            except jax.errors.JaxRuntimeError:
                answers.append(None)
        verdict = differences(answers)
        client.key_value_set(f"{call}/verdict", verdict)
    else:
        # Process 0 may have waited to the end for somebody else; its word takes a moment more.
        deadline += seconds / 8
        try:
            verdict = client.blocking_key_value_get(f"{call}/verdict", left())
        except jax.errors.JaxRuntimeError as error:
            raise Disagreement(
                f"process 0 has not answered in {seconds:g} s: see what it wrote last"
            ) from error
    if verdict:
        raise Disagreement(verdict)


def differences(answers: list[dict[str, str] | None]) -> str:
    """What differs between processes, as one sentence; "" if nothing does.

    Args:
      answers: for each process its facts, or None if it gave none.

    Example:
      >>> differences([{"seed": "1"}, {"seed": "2"}, {"seed": "1"}])
      'the processes differ: seed is 1 in processes 0 and 2, 2 in process 1; start all with the same'
      >>> differences([{}, None])
      'process 1 of 2 has not answered: see what it wrote last'
    """
    silent = [index for index, answer in enumerate(answers) if answer is None]
    if silent:
        verb = "has" if len(silent) == 1 else "have"
        seen = "it wrote" if len(silent) == 1 else "they wrote"
        return f"{_named(silent)} of {len(answers)} {verb} not answered: see what {seen} last"
    given = [answer for answer in answers if answer is not None]
    found = []
    for name in dict.fromkeys(name for answer in given for name in answer):
        holders: dict[str, list[int]] = {}
        for index, answer in enumerate(given):
            holders.setdefault(answer.get(name, "absent"), []).append(index)
        if len(holders) > 1:
            each = (f"{value} in {_named(indices)}" for value, indices in holders.items())
            found.append(f"{name} is {', '.join(each)}")
    return f"the processes differ: {'; '.join(found)}; start all with the same" * bool(found)


def _named(indices: list[int]) -> str:
    """Processes 0, 1 and 2."""
    *most, last = map(str, indices)
    if len(most) > 6:  # A thousand numbers tell nothing.
        return f"{len(indices)} processes ({most[0]}, {most[1]}, ..., {last})"
    return f"processes {', '.join(most)} and {last}" if most else f"process {last}"
