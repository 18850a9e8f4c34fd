from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq
import pytest

from kvspark.demo.nights.make_nights import Synset, counts, licence, synsets, write_nights

NOTICE = "  1 Use it freely.  \n  2   \n  10 WordNet {} Copyright.  \n"
DOG = (
    "02084071 05 n 03 dog 0 domestic_dog 0 Canis_familiaris 0 002 @ 02083346 n 0000 ~ 01322604 n 0000 "
    "| a member of the genus Canis  \n"
)


def noun(number: int, gloss: str) -> str:
    return f"{number:08d} 06 n 01 Thing_{number} a 000 | {gloss}  \n"


def dictionary(folder: Path, version: str, glosses: list[str]) -> Path:
    folder.mkdir()
    lines = [noun(number, gloss) for number, gloss in enumerate(glosses)]
    (folder / "data.noun").write_text("".join([NOTICE.format(version), DOG, *lines]))
    return folder


@pytest.fixture
def folders(tmp_path: Path) -> list[Path]:
    glosses = [f"one of {number}" for number in range(400)]
    edited = [
        gloss + " (edited)" if number % 10 == 0 else gloss for number, gloss in enumerate(glosses)
    ]
    return [dictionary(tmp_path / "a", "3.0", glosses), dictionary(tmp_path / "b", "3.1", edited)]


def test_a_line_of_the_data_file_is_a_synset():
    (dog,) = synsets([NOTICE, DOG])
    assert dog == Synset(
        ("dog", "domestic dog", "Canis familiaris"), 5, 0, "a member of the genus Canis"
    )
    assert dog.text == "dog, domestic dog, Canis familiaris: a member of the genus Canis"
    assert dog.label == "noun.animal"


def test_the_id_is_the_sense_key_of_the_first_word():
    (dog,) = synsets([DOG])
    (thing,) = synsets([noun(3, "x")])
    assert dog.sense_key == "dog%1:05:00::"
    assert thing.sense_key == "thing_3%1:06:10::"


def test_both_nights_hold_the_same_ids_and_the_edits(folders: list[Path], tmp_path: Path):
    write_nights(folders, tmp_path / "out")
    before, after = (
        pq.read_table(tmp_path / "out" / f"wordnet-{v}.parquet") for v in ("3.0", "3.1")
    )
    assert 20 < before.num_rows < 80
    assert before["id"].equals(after["id"])
    edited = [text.endswith("(edited)") for text in after["text"].to_pylist()]
    assert [
        a != b for a, b in zip(before["text"].to_pylist(), after["text"].to_pylist(), strict=True)
    ] == edited


def test_the_same_dictionaries_give_the_same_bytes(folders: list[Path], tmp_path: Path):
    for name in ("one", "two"):
        write_nights(folders, tmp_path / name)
    for path in (tmp_path / "one").iterdir():
        assert path.read_bytes() == (tmp_path / "two" / path.name).read_bytes()


def test_the_licence_loses_its_line_numbers_and_nothing_else(folders: list[Path]):
    assert licence(folders[0]) == "Use it freely.\n\nWordNet 3.0 Copyright.\n"


def test_the_licences_of_both_versions_stand_beside_the_nights(folders: list[Path], tmp_path: Path):
    write_nights(folders, tmp_path / "out")
    text = (tmp_path / "out" / "WORDNET-LICENSE.txt").read_text()
    assert "WordNet 3.0 Copyright" in text
    assert "WordNet 3.1 Copyright" in text


def test_an_id_that_is_there_twice_is_refused(tmp_path: Path):
    folder = tmp_path / "a"
    folder.mkdir()
    (folder / "data.noun").write_text(DOG + DOG)
    with pytest.raises(SystemExit, match="dog%1:05:00::"):
        write_nights([folder, folder], tmp_path / "out")


def test_the_counts_name_what_only_one_night_has(folders: list[Path], tmp_path: Path):
    lines = write_nights(folders, tmp_path / "out")
    after = pq.read_table(tmp_path / "out" / "wordnet-3.1.parquet")
    edited = sum(text.endswith("(edited)") for text in after["text"].to_pylist())
    assert lines == counts(
        *(pq.read_table(tmp_path / "out" / f"wordnet-{v}.parquet") for v in ("3.0", "3.1"))
    )
    assert f"| texts that the other night has not | {edited} | {edited} |" in lines
