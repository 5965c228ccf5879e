"""Who owns which examples: shared out evenly, or class by class in proportions drawn at random."""

import numpy as np

DRAWS = 1000  # until every client has enough


def iid(examples: int, clients: int, seed: int) -> list[np.ndarray]:
    """Shuffles, and deals out in parts that differ by one example at most.

    Args:
      examples: N.
      clients: W, at most N.
      seed: of the shuffle.

    Returns:
      For each client int64[n], rising; together every example once.

    Raises:
      ValueError: more clients than examples.

    Example:
      >>> [part.tolist() for part in iid(5, 2, seed=0)]
      [[0, 1, 2], [3, 4]]
    """
    if not 1 <= clients <= examples:
        raise ValueError(f"clients={clients}: must lie in 1..{examples}, the number of examples")
    order = np.random.RandomState(seed).permutation(examples)
    return [np.sort(part) for part in np.array_split(order, clients)]


def dirichlet(
    labels: np.ndarray, clients: int, alpha: float, seed: int, minimum: int = 1
) -> list[np.ndarray]:
    """Shares every class out in proportions of its own: the usual model of clients that see different things.

        p_c ~ Dirichlet(alpha, ..., alpha) over clients,    client i owns the share p_c[i] of class c

    Args:
      labels: int[N], the class of every example.
      clients: W.
      alpha: > 0; .1 gives most clients a few classes and very different numbers of examples, 100 is almost iid.
      seed: fixes the split.
      minimum: examples that each client has at least; proportions are drawn again until it holds.

    Returns:
      For each client int64[n], rising; together every example once.

    Raises:
      ValueError: alpha or clients out of range, or proportions that do not come out.

    Reference: Yurochkin et al., Bayesian Nonparametric Federated Learning (arXiv 1905.12022).

    Example:
      >>> parts = dirichlet(np.arange(100) % 10, clients=4, alpha=0.1, seed=0)
      >>> sorted(np.concatenate(parts).tolist()) == list(range(100))
      True
    """
    labels = np.asarray(labels)
    if not alpha > 0:
        raise ValueError(f"alpha={alpha}: must be positive; for equal shares use iid(...)")
    if not 1 <= clients * max(1, minimum) <= len(labels):
        raise ValueError(
            f"clients={clients}, minimum={minimum}: need {clients * max(1, minimum)} examples, there are {len(labels)}"
        )
    random = np.random.RandomState(seed)
    for _ in range(DRAWS):
        parts: list[list[np.ndarray]] = [[] for _ in range(clients)]
        for label in np.unique(labels):
            mine = random.permutation(np.flatnonzero(labels == label))
            shares = random.dirichlet(np.full(clients, alpha))
            cuts = np.rint(np.cumsum(shares)[:-1] * len(mine)).astype(int)
            for part, piece in zip(parts, np.split(mine, cuts), strict=True):
                part.append(piece)
        whole = [np.sort(np.concatenate(part)) for part in parts]
        if min(map(len, whole)) >= minimum:
            return whole
    raise ValueError(
        f"alpha={alpha}: {DRAWS} draws left some of {clients} clients with fewer than {minimum} examples; "
        "take a larger alpha, fewer clients or a smaller minimum"
    )
