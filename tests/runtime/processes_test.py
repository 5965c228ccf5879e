import pytest

from experiments import launch
from sparsetrain import runtime
from sparsetrain.runtime import processes
from tests.runtime.conftest import SECONDS, gone

ROUNDS = ("-m", "tests.runtime.rounds")


@pytest.fixture
def job(start):
    """Runs `rounds` in some processes, without a launcher; (exit code, output, error) of each."""

    def call(count, *arguments, wait_for=None):
        started = [start(*ROUNDS, *arguments, **place) for _, place in launch.local(count, "cpu")]
        ended = []
        for index in range(count) if wait_for is None else wait_for:
            output, error = started[index].communicate(timeout=SECONDS)
            assert gone(started[index].pid)
            ended.append((started[index].returncode, output, error))
        return ended

    return call


def test_two_processes_sum(job):
    for code, output, error in job(2, "sum", 0):
        assert code == 0, error
        assert "sum 3.0" in output


def test_other_versions_or_configs_are_refused_by_all_with_the_difference(job):
    numpy = runtime.versions()["numpy"]
    for code, output, error in job(3, "differ", 1):
        assert code == 1
        assert "sum" not in output
        assert error.strip().splitlines()[-1].partition(": ")[2] == (
            f"the processes differ: numpy is '{numpy}' in processes 0 and 2, '1.0' in process 1; "
            "config.seed is 0 in processes 0 and 2, 1 in process 1; start all with the same"
        )


@pytest.mark.parametrize(
    ("silent", "sentence"),
    [(1, "process 1 of 2 has not answered"), (0, "process 0 has not answered in 2 s")],
)
def test_nobody_waits_long_for_the_answer_of_a_process(job, silent, sentence):
    ((code, _, error),) = job(2, "silent", silent, wait_for=[1 - silent])
    assert code == 1
    assert sentence in error


@pytest.mark.parametrize(
    ("what", "last"), [("raise", "ValueError: bad luck"), ("exit", "one sentence")]
)
def test_a_failing_process_ends_at_once_and_the_other_with_it(job, what, last):
    # JAX's own end would wait 300 s for the other, which waits in a collective.
    (code, _, error), (code_of_other, _, _) = job(2, what, 0)
    assert code == 1
    assert error.strip().splitlines()[-1] == last
    assert code_of_other != 0


def test_a_damaged_checkpoint_of_several_processes_gives_way_to_the_one_before(job, tmp_path):
    for index, (code, output, error) in enumerate(job(2, "checkpoints", 0, tmp_path)):
        assert code == 0, error
        assert "restored 1" in output
        if index == 0:
            assert "checkpoint 2 is not whole: default/ocdbt.process_1/d/" in output


def test_who_finds_no_others_says_so(start):
    code = "from sparsetrain import runtime; runtime.start(initialization_seconds=1)"
    (_, place), _ = launch.local(2, "cpu")
    alone = start("-c", code, **place)
    _, error = alone.communicate(timeout=SECONDS)
    assert alone.returncode == 1
    address = place["JAX_COORDINATOR_ADDRESS"]
    assert error.strip().splitlines()[-1] == (
        f"process 0 of 2 at {address} has not met all others in 1 s: "
        "is one of them missing, or the port closed?"
    )


def test_one_process_needs_nobody(monkeypatch):
    for name in (processes.ADDRESS, processes.COUNT, processes.INDEX, processes.CLUSTER):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(SystemExit, match="3"), runtime.start() as job:
        assert (job.index, job.count) == (0, 1)
        raise SystemExit(3)  # Passes through: there is nobody to be kept waiting.
    runtime.check_agreement({"anything": 1})


@pytest.mark.parametrize(
    ("arguments", "environment", "message"),
    [
        ((), {processes.COUNT: "2"}, "coordinator_address is missing: give all of"),
        (("localhost:1", 2), {}, "process_id is missing"),
        (("localhost:1", 2, 2), {}, r"process_id=2: must lie in 0\.\.1"),
    ],
)
def test_incomplete_coordinates_are_named(monkeypatch, arguments, environment, message):
    for name in (processes.ADDRESS, processes.COUNT, processes.INDEX, "SLURM_JOB_ID"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ValueError, match=message):
        runtime.start(*arguments)


def test_a_cluster_that_is_not_there_is_named(start):
    # In a process of its own: where JAX has computed already, that is what it complains of.
    process = start("-c", "from sparsetrain import runtime; runtime.start(cluster='slurm')")
    _, error = process.communicate(timeout=SECONDS)
    assert process.returncode == 1 and "cluster='slurm': JAX recognises none here" in error


def test_many_processes_are_not_all_listed():
    answers = [{"jax": "'1'"}] * 20 + [{}]
    assert runtime.differences(answers) == (
        "the processes differ: jax is '1' in 20 processes (0, 1, ..., 19), absent in process 20; "
        "start all with the same"
    )
