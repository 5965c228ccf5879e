import html
import json
import re
import shutil
import statistics
import subprocess
from html.parser import HTMLParser

import pytest

from experiments.report import curves, page, png, quantity, read, svg
from experiments.report.__main__ import main
from experiments.report.cells import groups
from tests.experiments.report_runs import write_broken, write_run

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "google-chrome", "chrome"))), None)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    for seed, ends in enumerate((0.9, 0.95)):
        write_run(folder / f"dense_{seed}", seed=seed, ends=ends)
        write_run(folder / f"sbp_{seed}", rule="top_k", seed=seed, ends=ends - 0.2)
    write_broken(folder / "sbp_killed")
    return folder


@pytest.fixture(scope="module")
def report(runs, tmp_path_factory):
    out = tmp_path_factory.mktemp("report")
    main([f"--runs={runs}", f"--out={out}"])
    return out


class Rows(HTMLParser):
    """Texts of the first table's body, the warnings, and every tag that was left open."""

    def __init__(self, text):
        super().__init__()
        self.open, self.rows, self.wrong = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        if tag == "tr" and "tbody" in self.open:
            self.rows.append([])
        if tag == "td":
            self.rows[-1].append("")
        if tag not in ("meta", "input"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        pass

    def handle_endtag(self, tag):
        if self.open.pop() != tag:
            self.wrong.append(tag)

    def handle_data(self, data):
        if "td" in self.open:
            self.rows[-1][-1] += data


def test_a_page_is_whole_and_needs_nothing_else(report):
    text = (report / "report.html").read_text()
    parsed = Rows(text)
    assert not parsed.wrong and not parsed.open
    assert not re.search(r"(src|href)=|@import|url\(", text)
    assert text.count("<figure>") == text.count('role="img"') == 4
    assert {path.name for path in report.glob("*.png")} == {
        "test_accuracy_over_step.png",
        "train_loss_over_step.png",
        "validation_accuracy_over_step.png",
        "test_accuracy_over_bits.png",
    }


def test_means_are_over_finished_seeds_and_the_best_comes_first(report):
    rows = [row for row in Rows((report / "report.html").read_text()).rows if len(row) > 5][:2]
    spread = 100 * statistics.stdev([0.9, 0.95])
    assert rows[0][0] == "dense" and rows[0][1] == f"92.5 ± {spread:.1f}"
    assert rows[1][0] == "top_k1 unfinished" and rows[1][1] == f"72.5 ± {spread:.1f}"
    assert rows[0][3] == rows[1][3] == "2"
    assert "2.00 ms" in rows[0] and "3.00 kbit" in rows[0]


def in_chromium(path, script, folder):
    """(the page's DOM after the script, what its console says) in a browser without a window."""
    probe = folder / "probe.html"
    probe.write_text(path.read_text().replace("</body>", f"<script>{script}</script></body>"))
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--dump-dom"]
    done = subprocess.run(
        [CHROMIUM, *flags, f"--user-data-dir={folder / 'profile'}", probe.as_uri()],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    return done.stdout, [line for line in done.stderr.splitlines() if "CONSOLE" in line]


@pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")
def test_a_browser_shows_it_and_sorts_by_a_heading(report, tmp_path):
    script = """
      const buttons = [...document.querySelectorAll("section table th button")];
      const score = buttons.find((each) => each.textContent === "test accuracy, %");
      score.click();  // It was sorted best first.
      const rows = [...score.closest("table").tBodies[0].rows].map((row) => row.cells[0].textContent);
      const search = document.createElement("pre");
      search.id = "seen";
      search.textContent = JSON.stringify({
        rows, order: score.closest("th").ariaSort, wide: document.documentElement.scrollWidth <= innerWidth,
        labels: [...document.querySelectorAll("svg")].every((drawn) => {
          const boxes = [...drawn.querySelectorAll("text.label")].map((label) => label.getBoundingClientRect());
          return boxes.every((a, i) => boxes.every((b, j) => i >= j || a.bottom <= b.top + 3 || b.bottom <= a.top + 3));
        }),
      });
      document.body.append(search);
    """
    dom, console = in_chromium(report / "report.html", script, tmp_path)
    assert not console
    found = re.search(r'<pre id="seen">(.*?)</pre>', dom)
    assert found, "the script did not come to its end"
    assert json.loads(html.unescape(found[1])) == {
        "rows": ["top_k1 unfinished", "dense"],
        "order": "ascending",
        "wide": True,
        "labels": True,
    }


@pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")
def test_an_error_on_the_console_would_be_seen(report, tmp_path):
    _, console = in_chromium(report / "report.html", "undefined.sort()", tmp_path)
    assert len(console) == 1 and "TypeError" in console[0]


def test_broken_runs_are_told_and_shown(runs, tmp_path, report):
    text = (report / "report.html").read_text()
    assert "unfinished after epoch 1 of 3 (summary.json is missing)" in text
    assert "which are shown: 1; lines left out: 1" in text
    write_run(tmp_path / "no_config", seed=1)
    (tmp_path / "no_config" / "config.json").write_text('{"seed":')
    write_run(tmp_path / "not_begun")
    (tmp_path / "not_begun" / "metrics.jsonl").unlink()
    (tmp_path / "not_begun" / "summary.json").unlink()
    write_run(tmp_path / "nan")
    with (tmp_path / "nan" / "metrics.jsonl").open("a") as file:
        file.write('{"step": 40, "epoch": 4, "train_loss": null}\n')
    notes = {run.name: " ".join(run.notes) for run in read.find(str(tmp_path))}
    assert "its settings are unknown" in notes["no_config"]
    assert "nothing was evaluated yet" in notes["not_begun"]
    assert notes["nan"] == "train_loss is not finite from step 40 on"
    main([f"--runs={tmp_path}", f"--out={tmp_path / 'report'}"])


def test_a_seed_that_is_there_twice_is_told(tmp_path):
    for name in ("a", "b<script>"):
        write_run(tmp_path / name, seed=3)
    main([f"--runs={tmp_path}", f"--out={tmp_path / 'report'}"])
    text = (tmp_path / "report" / "report.html").read_text()
    assert "seed 3 is there 2 times, and every time counts" in text
    assert "b&lt;script&gt;" in text and "b<script>" not in text


def test_a_long_curve_tells_as_many_values_as_one_can_point_at(tmp_path):
    write_run(tmp_path / "long", epochs=500)
    (group,) = groups(read.find(str(tmp_path)))
    (chart,) = curves.over_clock(group, "test_accuracy")
    drawn = svg.draw(chart)
    assert 50 < drawn.count('class="hover"') < 70 and drawn.count(" L") >= 499
    assert "step 5,000: 90.0" in drawn


def test_a_run_without_anything_is_no_reason_to_fail(tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    main([f"--runs={folder}", f"--out={tmp_path / 'out'}"])
    assert "nothing was evaluated yet" in (tmp_path / "out" / "report.html").read_text()


def test_result_files_of_experiments_are_runs_too(tmp_path):
    results = tmp_path / "toy" / "results"
    results.mkdir(parents=True)
    for seed, value in enumerate((30.0, 34.0)):
        content = {
            "method": "sbc",
            "density": 0.1,
            "seed": seed,
            "summary": {"test_perplexity": value, "bits": 5e6},
            "curves": {"iteration": [1, 2], "test_perplexity": [60.0, value], "bits": [1e6, 5e6]},
            "parameters": 7,
        }
        (results / f"sbc_seed{seed}.json").write_text(json.dumps(content))
    (results / "dense_seed0.json").write_text('{"method": "dense", "se')
    (results / "other.json").write_text("[1, 2]")
    found = read.find(str(tmp_path / "toy"))
    assert [run.name for run in found] == ["dense_seed0.json", "sbc_seed0.json", "sbc_seed1.json"]
    (group,) = groups(found)
    assert group.score == "test_perplexity" and group.quantity(group.score).better == "lower"
    sbc = next(cell for cell in group.cells if cell.is_known)
    assert sbc.mean_and_spread("test_perplexity") == (32.0, pytest.approx(8**0.5))
    (chart,) = curves.over_bits(group, "test_perplexity")
    assert chart.lines[0].x == [1e6, 5e6] and chart.lines[0].y == [60.0, 32.0]


def test_scores_of_other_tasks_are_called_by_their_names(tmp_path):
    for seed, score in enumerate((0.8, 0.9)):
        names = {"score_name": "uas", "test_score": score, "validation_score": 0.7}
        folder = write_run(tmp_path / str(seed), seed=seed)
        (folder / "summary.json").write_text(json.dumps({"steps": 30, **names}))
    (group,) = groups(read.find(f"{tmp_path}/0,{tmp_path}/*"))
    assert group.score == "test_score" and len(group.cells[0].runs) == 2
    assert group.quantity("test_score").heading == "test UAS, %"
    assert group.quantity("validation_score").heading == "validation UAS, %"


@pytest.mark.parametrize("source", ["nowhere", ""])
def test_a_source_without_runs_is_one_sentence(source, tmp_path):
    given = tmp_path / source
    (tmp_path / "readme.json").write_text("{}")
    with pytest.raises(SystemExit, match=r"--runs=.*(no such folder|holds no run)"):
        main([f"--runs={given}", f"--out={tmp_path}"])


def test_a_lever_that_is_off_has_no_settings(tmp_path):
    write_run(tmp_path / "a", config={"backward": {"rule": "dense", "density": 0.1}})
    write_run(tmp_path / "b", config={"backward": {"rule": "dense", "density": 0.5}}, seed=1)
    (group,) = groups(read.find(f"{tmp_path}/*"))
    assert len(group.cells) == 1 and not group.columns


def test_many_cells_are_told_apart_by_panels_and_the_rest_is_grey(tmp_path):
    for i in range(10):
        for width in (4, 8):
            config = {"optimizer": {"learning_rate": i / 10}, "model": {"hidden": [width]}}
            write_run(tmp_path / f"{i}_{width}", ends=0.5 + i / 100, config=config)
    (group,) = groups(read.find(f"{tmp_path}/*"))
    charts = curves.over_clock(group, "test_accuracy")
    assert [chart.subtitle for chart in charts] == ["model.hidden 4", "model.hidden 8"]
    for chart in charts:
        styles = [line.style for line in chart.lines]
        assert styles[:2] == [None, None]  # The worst, drawn first and so below.
        assert len({style % svg.STYLES for style in styles[2:]}) == 8
        assert "2 more lines in grey" in chart.alternative()
        assert len(set(svg.spread_out([1.0] * 8, 14.0, 0.0, 290.0))) == 8
    png.write(charts[0], tmp_path / "chart.png")
    assert (tmp_path / "chart.png").stat().st_size > 10_000


def test_colours_are_those_of_the_style_sheet():
    style = (page._HERE / "style.css").read_text()
    light = style[: style.index("@media")]
    assert tuple(re.findall(r"--s\d: (#\w+)", light)) == png.COLOURS
    for scheme, paper in ((light, "#fdfcfa"), (style[style.index("dark") :], "#15171b")):
        for colour in re.findall(r"--s\d: (#\w+)", scheme)[:8]:
            assert contrast(colour, paper) >= 4.5, "what WCAG asks for text, and labels are text"


def contrast(one, other):
    """Ratio of the luminances of two colours, as WCAG 2 defines it."""

    def luminance(colour):
        parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
        return sum(weight * c for weight, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))

    bright, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (bright + 0.05) / (dark + 0.05)


@pytest.mark.parametrize(
    ("field", "value", "std", "text"),
    [
        ("test_accuracy", 0.9, None, "90.0"),
        ("test_accuracy", 0.9, 0.0, "90.0 ± 0.0"),
        ("bits_sent", 999_999, None, "1.00 Mbit"),
        ("bits_sent", 0, None, "0 bit"),
        ("seconds_per_step", 3.2e-5, 1e-6, "32.0 ± 1.0 µs"),
        ("train_loss", -1.5, None, "\N{MINUS SIGN}1.50"),
        ("kept_fraction", 0.04, 0.0, "0.0400"),
        ("test_bleu", None, None, "-"),
    ],
)
def test_numbers_are_written_as_a_person_reads_them(field, value, std, text):
    assert quantity.text(quantity.of(field), value, std) == text
