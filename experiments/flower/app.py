"""The same rounds as a Flower app: a ClientApp, a ServerApp and a strategy that speaks in compressed updates.

What Flower does here: it carries the messages, keeps every client's state (`context.state`) between its turns,
whether it was asked or not, and hands on that a client failed. What is sent, remembered and added up is in
`client.py` and `server.py`. Frames travel as bytes in a `ConfigRecord`.
"""

import contextlib
import functools
import os
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

# Read when the packages are imported. Nothing is reported to anybody, and clients share the CPU.
os.environ["FLWR_TELEMETRY_ENABLED"] = "0"
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
os.environ.setdefault("JAX_PLATFORMS", "cpu")

import flwr
import jax
import numpy as np
from flwr.app import (
    ArrayRecord,
    ConfigRecord,
    Context,
    Error,
    Message,
    MessageType,
    MetricRecord,
    RecordDict,
)
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import Strategy
from flwr.simulation import run_simulation

from experiments.flower import attendance
from experiments.flower.attendance import Fate
from experiments.flower.client import Kept
from experiments.flower.letters import Down, Up
from experiments.flower.problem import load, problem_of
from experiments.flower.rounds import Course
from experiments.flower.runs import Run

ENGINE = f"flwr {flwr.__version__}"
FAILED = 500  # code of the errors that clients which fail on purpose answer with
Train = Callable[[], Course]
PATIENCE = 120.0  # seconds until all clients must have joined, and those of a round have answered

client_app = ClientApp()


@client_app.query()
def introduce(message: Message, context: Context) -> Message:
    """Says which client runs on a node: names of nodes are drawn anew by every simulation."""
    number = MetricRecord({"client": int(context.node_config["partition-id"])})
    return Message(RecordDict({"client": number}), reply_to=message)


@client_app.train()
def train(message: Message, context: Context) -> Message:
    """One turn of a client, or its failure."""
    settings, letter = message.content["run"], message.content["letter"]
    run, number = Run(**settings_of(settings)), int(letter["round"])
    who = int(context.node_config["partition-id"])
    fate = attendance.fate(run.seed, number, who, run.dropout)
    if fate is Fate.ABSENT:
        return Message(Error(FAILED, "absent"), reply_to=message)
    problem = problem_of(run)
    client = problem.client()
    down = Down(
        letter["version"], letter["whole"], tuple(letter.get("frames", ())), letter["heard"]
    )
    kept, up = client.turn(
        restored(context.state, run, client.fresh()),
        down,
        problem.batches(who, number),
        number,
        len(problem.owned[who]),
    )
    context.state = stored(run, kept)
    if fate is Fate.LOST:
        return Message(Error(FAILED, "lost"), reply_to=message)
    content = RecordDict(
        {
            "update": ConfigRecord({"frame": up.frame}),
            "metrics": MetricRecord({"num-examples": up.examples, "train-loss": up.loss}),
        }
    )
    return Message(content, reply_to=message)


def stored(run: Run, kept: Kept) -> RecordDict:
    """A client's state as Flower keeps it."""
    arrays = [np.asarray(leaf) for leaf in jax.tree.leaves((kept.weights, kept.sender))]
    words = {
        "run": run.name,
        "version": kept.version,
        "sent": kept.sent,
        "sent-in": kept.sent_in,
    }
    return RecordDict({"arrays": ArrayRecord(arrays), "words": ConfigRecord(words)})


def restored(state: RecordDict, run: Run, fresh: Kept) -> Kept:
    """What `stored` had stored in this run; else that of a client before its first turn."""
    if "words" not in state or state["words"]["run"] != run.name:
        return fresh
    words, leaves = state["words"], state["arrays"].to_numpy_ndarrays()
    weights, sender = jax.tree.unflatten(jax.tree.structure((fresh.weights, fresh.sender)), leaves)
    return Kept(words["version"], weights, sender, words["sent"], words["sent-in"])


def settings_of(record: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a `Run`: a record has no None, so that what is None is absent from it."""
    return {"alpha": None, **record}


class CompressedUpdates(Strategy):
    """Federated averaging of compressed updates, for clients that may fail.

    Invitations are drawn by seed and round instead of by Flower, so that a run can be repeated. Clients that failed, or
    whose reply does not come in time, were not heard: the round goes on with the others. Any other error ends the
    run, whose figures would not be those of its settings.
    """

    def __init__(self, run: Run, course: Course, nodes: Mapping[int, int]):
        """See class.

        Args:
          run: its settings go to every client.
          course: of the run.
          nodes: number of a client -> Flower's name of its node.
        """
        self._run, self._course, self._nodes = run, course, nodes
        self._clients = {node: client for client, node in nodes.items()}
        values = {name: value for name, value in vars(run).items() if value is not None}
        self._settings = ConfigRecord(values)

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """A letter for everyone who is asked."""
        del arrays, config, grid  # The server in `course` has the weights.
        messages = []
        for client, letter in self._course.letters(server_round).items():
            words: dict[str, Any] = {
                "round": server_round,
                "version": letter.version,
                "whole": letter.whole,
                "heard": letter.heard,
            }
            if letter.frames:
                words["frames"] = list(letter.frames)
            content = RecordDict({"run": self._settings, "letter": ConfigRecord(words)})
            messages.append(Message(content, self._nodes[client], MessageType.TRAIN))
        return messages

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """The round's end, with those who were heard."""
        answers = {}
        for reply in replies:
            if reply.has_error():
                if reply.error.code != FAILED:
                    raise RuntimeError(f"round {server_round}: {reply.error.reason}")
                continue
            metrics = reply.content["metrics"]
            answers[self._clients[reply.metadata.src_node_id]] = Up(
                reply.content["update"]["frame"], metrics["num-examples"], metrics["train-loss"]
            )
        measured = self._course.close(server_round, answers)
        if answers:
            examples = sum(up.examples for up in answers.values())
            losses = sum(up.examples * up.loss for up in answers.values())
            measured = {"train-loss": losses / examples, **measured}
        return arrays_of(self._course), MetricRecord(measured) if measured else None

    def configure_evaluate(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Nobody is asked: the server has the test images."""
        del server_round, arrays, config, grid
        return []

    def aggregate_evaluate(
        self, server_round: int, replies: Iterable[Message]
    ) -> MetricRecord | None:
        """Nothing to do."""
        del server_round, replies
        return None

    def summary(self) -> None:
        """Nothing to say: the result file says it."""


def arrays_of(course: Course) -> ArrayRecord:
    """The server's weights, as Flower passes them on."""
    return ArrayRecord([np.asarray(leaf) for leaf in jax.tree.leaves(course.server.weights)])


def nodes_of(grid: Grid, clients: int) -> dict[int, int]:
    """Number of a client -> name of its node, once all have joined.

    Raises:
      RuntimeError: they do not come, or do not answer.
    """
    end = time.monotonic() + PATIENCE
    while len(nodes := list(grid.get_node_ids())) < clients:
        if time.monotonic() > end:
            raise RuntimeError(f"{len(nodes)} of {clients} clients joined in {PATIENCE:.0f} s")
        time.sleep(0.1)
    questions = [Message(RecordDict(), node, MessageType.QUERY) for node in nodes]
    found = {}
    for reply in grid.send_and_receive(questions, timeout=PATIENCE):
        if not reply.has_error():
            found[reply.content["client"]["client"]] = reply.metadata.src_node_id
    if sorted(found) != list(range(clients)):
        raise RuntimeError(f"clients {sorted(found)} answered of {clients}")
    return found


def follow(grid: Grid, run: Run, nodes: Mapping[int, int]) -> Course:
    """A whole run by Flower: what `rounds.follow` does in one process."""
    course = Course(run, load(run.data))
    strategy = CompressedUpdates(run, course, nodes)
    strategy.start(
        grid=grid, initial_arrays=arrays_of(course), num_rounds=run.rounds, timeout=PATIENCE
    )
    return course


def simulate(runs: Sequence[Run], each: Callable[[Run, Train], None], processes: int = 2) -> None:
    """Runs one after the other in one of Flower's simulations, without network or telemetry.

    Args:
      runs: with equal numbers of clients.
      each: takes a run and what trains it.
      processes: in which clients run.

    Raises:
      ValueError: no runs, or of different numbers of clients.
    """
    (clients,) = {run.clients for run in runs}
    server_app = ServerApp()

    @server_app.main()
    def serve(grid: Grid, context: Context) -> None:
        del context
        nodes = nodes_of(grid, clients)
        for run in runs:
            each(run, functools.partial(follow, grid, run, nodes))

    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(
            tempfile.TemporaryDirectory(prefix="flower_", ignore_cleanup_errors=True)
        )
        if "FLWR_HOME" not in os.environ:
            # Where Flower keeps a number for its telemetry, even if that is off.
            os.environ["FLWR_HOME"] = f"{folder}/home"
            stack.callback(os.environ.pop, "FLWR_HOME")
        run_simulation(
            server_app=server_app,
            client_app=client_app,
            num_supernodes=clients,
            backend_config={
                "client_resources": {"num_cpus": 1, "num_gpus": 0.0},
                # Ray's files go with the folder.
                "init_args": {"num_cpus": processes, "num_gpus": 0, "_temp_dir": folder},
            },
        )
