"""Who is asked in a round, and who fails: functions of seed, round and client, the same wherever they are computed."""

import enum

import numpy as np

# So that the draws of different kinds have nothing to do with one another.
_INVITED, _FATE = 1, 2


class Fate(enum.Enum):
    """What becomes of a client in a round to which it was invited."""

    ANSWERS = "answers"
    ABSENT = "absent"  # fails before it does anything: its state is that of the round before
    LOST = "lost"  # trains and sends, but nobody hears: its state says so at its next invitation


def invited(seed: int, number: int, clients: int, fraction: float) -> list[int]:
    """Clients that the server asks in a round.

    Args:
      seed: of the run.
      number: of the round, from 1.
      clients: W.
      fraction: of them that are asked, 0 < fraction <= 1.

    Returns:
      max(1, round(fraction W)) numbers of clients, rising.

    Raises:
      ValueError: fraction out of range.

    Example:
      >>> len(invited(seed=0, number=1, clients=10, fraction=0.5))
      5
      >>> invited(seed=0, number=1, clients=3, fraction=1.0)
      [0, 1, 2]
    """
    if not 0 < fraction <= 1:
        raise ValueError(f"fraction={fraction}: must lie in (0, 1]")
    count = max(1, round(fraction * clients))
    order = np.random.RandomState([_INVITED, seed, number]).permutation(clients)
    return sorted(order[:count].tolist())


def fate(seed: int, number: int, client: int, dropout: float) -> Fate:
    """Whether a client answers; of those who fail half are absent, half are not heard.

    Args:
      seed: of the run.
      number: of the round.
      client: its number.
      dropout: probability of failing, 0 <= dropout < 1.

    Raises:
      ValueError: dropout out of range.

    Example:
      >>> fate(seed=0, number=1, client=0, dropout=0.0)
      <Fate.ANSWERS: 'answers'>
    """
    if not 0 <= dropout < 1:
        raise ValueError(f"dropout={dropout}: must lie in [0, 1)")
    draw = np.random.RandomState([_FATE, seed, number, client]).uniform()
    if draw >= dropout:
        return Fate.ANSWERS
    return Fate.ABSENT if draw < dropout / 2 else Fate.LOST
