"""What a process is called among those that share lanes."""

from __future__ import annotations

from pathlib import Path

from marketprism_consumer.ingest.owner import Owner


def test_who_is_started_in_its_place_has_its_name(tmp_path: Path) -> None:
    first = Owner("main", tmp_path)
    first.close()
    assert Owner("main", tmp_path).name == first.name


def test_no_two_that_live_have_one_name(tmp_path: Path) -> None:
    living = [Owner("main", tmp_path), Owner("main", tmp_path), Owner("other", tmp_path)]
    assert len({each.name for each in living}) == 3


def test_pods_on_a_node_whose_name_is_theirs_are_told_apart(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    assert Owner("main", tmp_path / "a").name != Owner("main", tmp_path / "b").name


def test_where_nothing_can_be_written_the_name_is_new(tmp_path: Path) -> None:
    assert Owner("main", tmp_path / "nowhere").name != Owner("main", tmp_path / "nowhere").name
