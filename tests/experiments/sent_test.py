import pytest

from experiments import demo, demo_report, sent
from sparsetrain.training import Result

SUMMARY = {
    "bits_sent": 12_345_678,
    "wire_bytes": 1_600_018,
    "dense_bits": 1_234_567_800,
    "compression_ratio": 100.0,
}
PLOTTED = (
    "test_accuracy",
    "train_loss",
    "memory_norm",
    "gradient_angle",
    "gradient_angle/hidden_0/kernel",
)
TEXTS = [
    "12.3 Mbit (12,345,678)",
    "1.60 MB (1,600,018)",
    "1.23 Gbit (1,234,567,800)",
    "100.0",
]


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0, "0 bit"),
        (999, "999 bit"),
        (1000, "1.00 kbit (1,000)"),
        (12_345, "12.3 kbit (12,345)"),
        (123_456, "123 kbit (123,456)"),
        (999_999, "1.00 Mbit (999,999)"),
        (2**53 + 1, "9.01 Pbit (9,007,199,254,740,993)"),
        (2 * 10**18, "2000 Pbit (2,000,000,000,000,000,000)"),
    ],
)
def test_amounts_are_readable_and_exact(number, text):
    assert sent.amount(number, "bit") == text


def test_a_run_tells_what_it_sent():
    assert sent.has_sent(SUMMARY) and not sent.has_sent({"test_accuracy": 0.5})
    assert sent.texts(SUMMARY) == TEXTS
    # JSON knows no infinite ratio.
    silent = {"bits_sent": 0, "wire_bytes": 0, "dense_bits": 320, "compression_ratio": None}
    assert sent.sentence(silent).endswith("320 bit if dense: compression ratio -")


def results(**fields):
    history = [{"step": 1, **dict.fromkeys(PLOTTED, 0.5)}]
    return [Result({"test_accuracy": 0.5, **fields}, history, None)]


def test_the_report_shows_it_for_methods_that_exchange(capsys):
    runs = {"dense": results(), "low rank": results(**SUMMARY)}
    table = {name: demo.statistics(each) for name, each in runs.items()}
    histories = {name: [run.history for run in each] for name, each in runs.items()}
    demo_report.print_table(table)
    printed = capsys.readouterr().out
    page = demo_report.page(table, histories, {})
    for text in (*demo_report.SENT_HEADINGS[1:], *TEXTS):
        assert text in printed
        assert text in page
    assert page.count("<table>") == page.count("</table>") == 2
    assert page.count("<td>low rank</td>") == 2 and page.count("<td>dense</td>") == 1


def test_the_report_is_silent_where_nothing_was_sent(capsys):
    runs = results()
    table = {"dense": demo.statistics(runs)}
    demo_report.print_table(table)
    page = demo_report.page(table, {"dense": [runs[0].history]}, {})
    shown = page + capsys.readouterr().out
    assert not [heading for heading in demo_report.SENT_HEADINGS[1:] if heading in shown]
    assert page.count("<table>") == 1
