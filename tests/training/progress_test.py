import io

from sparsetrain.training import progress


def follow(view):
    view.start("job", 10, 30)
    view.advance(15)
    view.advance(20, {"train_loss": 0.123456, "gradient_angle": None})
    view.note("checkpoint 5 skipped")
    view.stop()


def test_lines_are_plain_and_one_per_evaluation():
    stream = io.StringIO()
    view = progress.choose(stream)
    follow(view)
    assert stream.getvalue().splitlines() == [
        "job: step 10 of 30",
        "job: step 20 of 30: train_loss 0.1235",
        "job: checkpoint 5 skipped",
    ]


def test_a_terminal_gets_a_bar():
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    stream = Terminal()
    view = progress.choose(stream)
    assert isinstance(view, progress.Bar)
    follow(view)
    for text in ("job", "20/30", "train_loss 0.1235", "checkpoint 5 skipped"):
        assert text in stream.getvalue()


def test_silent_says_nothing(capsys):
    follow(progress.Silent())
    assert capsys.readouterr() == ("", "")
