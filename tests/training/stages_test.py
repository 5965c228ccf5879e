from sparsetrain.training import stages
from sparsetrain.training.stages import Stage

COURSE = [Stage(0, 0, 4), Stage(20, 2, 8), Stage(30, 4, 2)]


def test_a_checkpoint_is_of_those_who_made_its_last_step():
    # At 20 eight have begun, with what four wrote there.
    found = [stages.that_made(step, COURSE).workers for step in (0, 10, 20, 21, 30, 31)]
    assert found == [4, 4, 4, 8, 8, 2]


def test_epochs_are_counted_on():
    assert [COURSE[1].epochs(step, 5) for step in (20, 24, 25, 30)] == [2, 2, 3, 4]


def test_they_are_read_as_they_were_written(tmp_path):
    assert stages.read(tmp_path) == []
    stages.write(tmp_path, COURSE)
    assert stages.read(tmp_path) == COURSE
    assert [path.name for path in tmp_path.iterdir()] == [stages.NAME]
