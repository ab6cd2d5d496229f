"""Reading WordNet's nouns: the file format by hand, and the real file if it is installed."""

import pytest

from yolo9k.errors import DataError
from yolo9k.wordtree import read_tree
from yolo9k.wordtree.builder import build_tree
from yolo9k.wordtree.wordnet import ROOT, find_wordnet, read_wordnet

NOUNS = """  1 This software and database is being provided to you, the LICENSEE
00001930 03 n 01 physical_entity 0 000 | an entity that has physical existence
00002000 03 n 02 dog 0 domestic_dog 0 002 @ 00001930 n 0000 ~ 00003000 n 0000 | a dog | with a bar
00003000 03 n 01 Rex 0 002 @i 00002000 n 0000 + 00001740 v 0101 | one dog
"""


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "data.noun").write_text(NOUNS)
    return tmp_path


def test_concepts_have_words_and_hypernyms(folder):
    net = read_wordnet(folder)
    assert net.hypernyms == {"n00001930": (), "n00002000": ("n00001930",), "n00003000": ("n00002000",)}
    assert net.words["n00002000"] == ("dog", "domestic dog")
    assert net.names["n00001930"] == "physical entity"
    assert build_tree(["n00003000"], net.hypernyms, ROOT, names=net.names).tree.names == ("Rex",)


def test_instances_can_be_excluded(folder):
    assert read_wordnet(folder, instances=False).hypernyms["n00003000"] == ()


def test_manual_edges_replace_hypernyms(tmp_path):
    (tmp_path / "data.noun").write_text("09229709 03 n 01 bubble 0 001 @ 00001930 n 0000 | round\n")
    assert read_wordnet(tmp_path).hypernyms["n09229709"] == ("n03964744",)
    assert read_wordnet(tmp_path, manual=False).hypernyms["n09229709"] == ("n00001930",)


@pytest.mark.parametrize("line", ["", "x 03 n 01 dog 0 000", "00002000 03 n 02 dog 0", "1 2 n zz dog 0 000 | x"])
def test_malformed_lines_are_refused(tmp_path, line):
    (tmp_path / "data.noun").write_text(NOUNS + line + "\n")
    with pytest.raises(DataError, match=r"data\.noun:5: not a noun in the format"):
        read_wordnet(tmp_path)


def test_folders_that_are_searched(tmp_path, monkeypatch):
    with pytest.raises(DataError, match=r"no data.noun of WordNet 3.0 in .*install wordnet-base"):
        find_wordnet(tmp_path)
    (tmp_path / "corpora" / "wordnet").mkdir(parents=True)
    (tmp_path / "corpora" / "wordnet" / "data.noun").write_text(NOUNS)
    monkeypatch.setenv("NLTK_DATA", str(tmp_path))
    assert find_wordnet() == tmp_path / "corpora" / "wordnet" / "data.noun"


def test_the_real_wordnet_builds_the_tree_of_the_paper(shared):
    try:
        net = read_wordnet()
    except DataError:
        pytest.skip("WordNet 3.0 is not installed (Debian: wordnet-base)")
    labels = shared("golden", "wordtree", "ilsvrc1k.wnids.txt").read_text().split()
    built = build_tree(labels, net.hypernyms, ROOT, names=net.names)
    assert len(built.tree) == 1369
    theirs = read_tree(shared("golden", "wordtree", "9k.tree"))
    assert set(build_tree(theirs.ids, net.hypernyms, ROOT).tree.ids) == set(theirs.ids)


def test_a_noun_with_several_pointers(tmp_path):
    pointers = "003 @ 00000001 n 0000 ~ 00000002 n 0000 @ 00000003 n 0000"
    (tmp_path / "data.noun").write_text(f"00000009 03 n 02 thing 0 some_object 1 {pointers} | gloss\n")
    found = read_wordnet(tmp_path)
    assert found.hypernyms == {"n00000009": ("n00000001", "n00000003")}
    assert found.words == {"n00000009": ("thing", "some object")}


@pytest.mark.parametrize("line", ["00000009 03 n 00 000 | x", "00000009 03 n 01 a 0 001 @ 00000001 n"])
def test_a_noun_without_words_or_with_half_a_pointer(tmp_path, line):
    (tmp_path / "data.noun").write_text(f"{line}\n")
    with pytest.raises(DataError, match="not a noun in the format"):
        read_wordnet(tmp_path)
