"""The same work in PyTorch, eager, for scale; only where torch is installed."""

import importlib
import importlib.util
from collections.abc import Iterator
from typing import Any

import numpy as np

from benchmarks.backward_layer import DECAY, FRESH, IN_PLACE, LayerCase
from benchmarks.backward_step import ONE_CALL, RATE, StepCase
from benchmarks.candidate import Candidate

BUFFERS = 4


def is_installed() -> bool:
    """Whether torch can be imported."""
    return importlib.util.find_spec("torch") is not None


def load(threads: int) -> Any:
    """torch, told to use as many cores as JAX may."""
    torch = importlib.import_module("torch")
    torch.set_num_threads(threads)
    return torch


def layer_candidates(torch: Any, case: LayerCase) -> Iterator[Candidate]:
    """Dense and unified backward of a layer, kernels stored as [O, I] as torch does."""
    rng = np.random.default_rng(0)

    def normal(*shape: int) -> Any:
        return torch.from_numpy(rng.standard_normal(shape, dtype=np.float32))

    x = [normal(case.rows, case.inputs) for _ in range(BUFFERS)]
    g = [normal(case.rows, case.outputs) for _ in range(BUFFERS)]
    kernel = normal(case.outputs, case.inputs)
    dkernel, memory = torch.zeros_like(kernel), torch.zeros(case.outputs)

    def fresh(number: int) -> Any:
        i = number % BUFFERS
        return g[i].T @ x[i], g[i] @ kernel

    def in_place(number: int) -> Any:
        i = number % BUFFERS
        return torch.mm(g[i].T, x[i], out=dkernel), g[i] @ kernel

    def unified(number: int) -> Any:
        i = number % BUFFERS
        u = g[i] + memory / case.rows
        columns = u.abs().sum(0).topk(case.kept).indices
        values = u[:, columns]
        memory.copy_(u.sum(0).index_fill_(0, columns, 0).mul_(DECAY))
        return values.T @ x[i], columns, values @ kernel[columns]

    against = (FRESH, IN_PLACE)
    yield Candidate("torch eager: dense out_in, fresh dW", fresh, "layer", against=against)
    yield Candidate("torch eager: dense out_in, dW in place", in_place, "layer", against=against)
    name = "torch eager: unified + memory, row-sparse out_in"
    yield Candidate(name, unified, "layer", against=against)


def step_candidates(torch: Any, case: StepCase) -> Iterator[Candidate]:
    """A dense training step with torch's fused Adam, and with its SGD."""
    rng = np.random.default_rng(0)
    images = [
        torch.from_numpy(rng.standard_normal((case.rows, case.inputs), dtype=np.float32))
        for _ in range(BUFFERS)
    ]
    labels = [torch.from_numpy(rng.integers(0, 10, case.rows)) for _ in range(BUFFERS)]
    nn = torch.nn
    optimizers = {
        "adam": lambda params: torch.optim.Adam(params, RATE, fused=True),
        "sgd": lambda params: torch.optim.SGD(params, RATE),
    }
    for kind, make in optimizers.items():
        first = nn.Linear(case.inputs, case.hidden)
        second, last = nn.Linear(case.hidden, case.hidden), nn.Linear(case.hidden, 10)
        model = nn.Sequential(first, nn.ReLU(), second, nn.ReLU(), last)
        optimizer = make(model.parameters())

        def run(number: int, model: Any = model, optimizer: Any = optimizer) -> Any:
            i = number % BUFFERS
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(images[i]), labels[i])
            loss.backward()
            optimizer.step()
            return loss.item()

        yield Candidate(f"torch eager: dense, {kind}", run, ONE_CALL, against=(kind,))
