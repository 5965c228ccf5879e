import gzip

import pytest

from sparsetrain.data import conllu
from sparsetrain.data.files import DamagedError

ROWS = """# sent_id = 1
# text = I don't.
1	I	I	PRON	PRP	_	2	nsubj	_	_
2-3	don't	_	_	_	_	_	_	_	_
2	do	do	AUX	VBP	_	0	root	_	_
2.1	go	go	VERB	VB	_	_	_	0:root	_
3	n't	not	PART	RB	_	2	advmod	_	_
4	.	.	PUNCT	.	_	2	punct	_	_

# sent_id = 2
1	1 000	1000	NUM	CD	_	0	root	_	_

"""


def read(folder, rows):
    path = folder / "a.conllu"
    path.write_text(rows)
    return conllu.read(path)


def test_words_of_the_tree_only(tmp_path):
    first, second = read(tmp_path, ROWS)
    assert first.words == ("I", "do", "n't", ".")
    assert first.tags == ("PRON", "AUX", "PART", "PUNCT")
    assert first.heads == (2, 0, 2, 2)
    assert first.relations == ("nsubj", "root", "advmod", "punct")
    assert second.words == ("1 000",)
    assert read(tmp_path, ROWS.replace("\n", "\r\n")) == (first, second)


def test_the_three_files(tmp_path, monkeypatch):
    for name in conllu.PARTS.values():
        (tmp_path / f"{name}.gz").write_bytes(gzip.compress(ROWS.encode()))
    assert [len(part) for part in conllu.load(tmp_path)] == [2, 2, 2]
    (tmp_path / "en_ewt-ud-dev.conllu.gz").unlink()
    with pytest.raises(FileNotFoundError, match=r"no en_ewt-ud-dev\.conllu "):
        conllu.load(tmp_path)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("\t_\t2\tnsubj\t_\t_", "\t_\t2\tnsubj", r"a\.conllu:3 has 8 fields where .* 10"),
        ("1\tI\t", "2\tI\t", r"a\.conllu:3 has the number '2' where 1 is due"),
        ("2\tnsubj", "_\tnsubj", r":3 has the head '_'"),
        ("2\tnsubj", "5\tnsubj", r":3: a sentence of 4 words has the head 5"),
        ("2\tnsubj", "0\tnsubj", r":3: a sentence has 2 roots"),
        ("2\tnsubj", "1\tnsubj", r":3: word 1 is its own ancestor"),
        ("PRON", "_", r":3 lacks its form, tag or relation"),
        ("root\t_\t_\n\n", "root\t_\t_\n", r":11 is not followed by the empty line"),
    ],
)
def test_broken_rows_are_named(tmp_path, old, new, message):
    assert old in ROWS
    with pytest.raises(DamagedError, match=message):
        read(tmp_path, new.join(ROWS.rsplit(old, 1)))


def test_circles_are_found_wherever_they_start(tmp_path):
    rows = "".join(
        f"{word}\tw\tw\tX\tX\t_\t{head}\tdep\t_\t_\n"
        for word, head in enumerate([0, 1, 4, 5, 3], 1)
    )
    with pytest.raises(DamagedError, match="word 3 is its own ancestor"):
        read(tmp_path, rows + "\n")


def test_cut_files(tmp_path):
    path = tmp_path / "a.conllu.gz"
    path.write_bytes(gzip.compress(ROWS.encode())[:-20])
    with pytest.raises(DamagedError, match="truncated or damaged gzip"):
        conllu.read(path)
    with pytest.raises(DamagedError, match="ends inside its last line"):
        read(tmp_path, ROWS[:-20])
    with pytest.raises(DamagedError, match="no sentence"):
        read(tmp_path, "# nothing\n")


@pytest.mark.needs_data("ud-english-ewt")
def test_the_real_treebank(data_dir):
    found = conllu.load(data_dir(conllu.NAME))
    assert [len(part) for part in found] == [12_544, 2_001, 2_077]
    assert [sum(len(sentence.words) for sentence in part) for part in found] == [
        *(204_577, 25_147, 25_094),
    ]
    assert len({tag for sentence in found.train for tag in sentence.tags}) == 17
    assert len({name for sentence in found.train for name in sentence.relations}) == 51
