"""Rounds of Ok-Topk in plain NumPy: what `ok_top_k_test.py` compares with."""

import itertools

import numpy as np

from sparsetrain.compress import regions

LOCAL, GLOBAL = np.float32(1.012), np.float32(1.008)


class Oracle:
    """All workers of one index space, entry by entry: no slots, but lists that are cut."""

    def __init__(self, workers, size, k, exact_every, regions_every):
        self.workers, self.size, self.k = workers, size, k
        self.exact_every, self.regions_every = exact_every, regions_every
        self.round = 0
        self.residual = np.zeros((workers, size), np.float32)
        self.local = np.zeros(workers, np.float32)
        self.threshold = np.float32(0)
        self.quantiles = [size * i // regions.PARTS for i in range(regions.PARTS + 1)]

    def selected(self, worker, u):
        """Positions that one worker would send."""
        magnitude = np.abs(u)
        reaching = np.flatnonzero((magnitude >= self.local[worker]) & (u != 0))
        if self.round % self.exact_every == 0 or reaching.size > 3 * self.k // 2:
            order = np.argsort(-magnitude, kind="stable")[: self.k]
            self.local[worker] = magnitude[order[-1]]
            reaching = np.sort(order[u[order] != 0])
        self.local[worker] = self.nudged(self.local[worker], reaching.size, 5 * self.k / 4, LOCAL)
        return reaching

    def nudged(self, threshold, count, most, scale):
        if count > most:
            return threshold * scale
        return threshold / scale if count < 2 * self.k / 3 else threshold

    def repartition(self, lists):
        full = [positions for positions in lists if positions.size]
        if not full or self.round % self.regions_every:
            return
        own = [
            [*(int(p[i * p.size // regions.PARTS]) for i in range(regions.PARTS)), self.size]
            for p in full
        ]
        self.quantiles = [sum(column) // len(own) for column in zip(*own, strict=True)]

    def begins(self):
        found = []
        for worker in range(self.workers):
            part, rest = divmod(worker * regions.PARTS, self.workers)
            low, high = self.quantiles[part], self.quantiles[min(part + 1, regions.PARTS)]
            gap = high - low
            found.append(
                low + gap // self.workers * rest + gap % self.workers * rest // self.workers
            )
        return [0, *found[1:], self.size]

    def step(self, g):
        """Mean, and what was accepted of each worker."""
        u = self.residual + g
        room = max(1, 3 * self.k // (2 * self.workers))
        lists = [self.selected(worker, u[worker]) for worker in range(self.workers)]
        self.repartition(lists)
        begins = self.begins()
        sent = np.zeros_like(u)
        for worker, positions in enumerate(lists):
            for begin, end in itertools.pairwise(begins):
                here = positions[(positions >= begin) & (positions < end)]
                first = self.round * room % here.size if here.size > room else 0
                kept = np.roll(here, -first)[:room]
                sent[worker, kept] = u[worker, kept]
        sums = np.zeros(self.size, np.float32)
        for row in sent:
            sums = sums + row
        if self.round % self.exact_every == 0:
            magnitudes = np.sort(np.abs(sums[sums != 0]))[::-1]
            self.threshold = magnitudes[: self.k][-1] if magnitudes.size else np.float32(0)
        above = np.flatnonzero((np.abs(sums) >= self.threshold) & (sums != 0))
        used = self.threshold
        self.threshold = self.nudged(self.threshold, above.size, 4 * self.k / 3, GLOBAL)
        result = np.zeros_like(sums)
        for begin, end in itertools.pairwise(begins):
            here = above[(above >= begin) & (above < end)]
            best = here[np.argsort(-np.abs(sums[here]), kind="stable")][:room]
            result[best] = sums[best]
        accepted = np.where(result != 0, sent, 0)
        self.residual = u - accepted
        self.round += 1
        return result / self.workers, accepted, used
