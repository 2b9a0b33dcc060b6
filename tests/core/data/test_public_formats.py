# SPDX-License-Identifier: GPL-3.0-or-later
"""Every format by its name: written by the command, opened by a row of a configuration, read as samples and as streams."""

import itertools
import shutil
import subprocess
import sys

import numpy as np
import pytest

pytest.importorskip("datasets")
from fireedit_core.data.formats import BrokenRow, DatasetError
from fireedit_core.data.formats.registry import FORMATS, load_rows, load_sources, open_entry, open_reader, open_source
from fireedit_core.data.mixture import Mixture
from fireedit_core.data.streaming import StreamedReader, StreamMixture, load_streams, open_stream
from fireedit_core.data.writers.registry import write

COUNT = 6


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    return write(tmp_path_factory.mktemp("all"), count=COUNT)


# --- the registry --------------------------------------------------------------------------------------------------------------------


def test_every_format_is_written_and_opens(sources):
    import yaml

    lists = yaml.safe_load(sources.read_text())
    rows = {row["format"]: row for rows in lists.values() for row in rows}
    assert rows.keys() == FORMATS.keys()
    for name, row in rows.items():
        if FORMATS[name].stream:
            continue
        reader = open_entry(row, sources.parent)
        samples = list(reader)
        assert len(reader) >= COUNT and len(samples) == len(reader) and not reader.skipped, name
        for number, sample in enumerate(samples):
            assert sample.source.dtype == np.uint8 and sample.source.ndim == 3
            assert reader.size(number) == sample.source.shape[:2], name
            assert (sample.target is not None) == (FORMATS[name].kind not in (None, "conversation")), name
            assert sample.instruction or sample.conversation, name


def test_a_mixture_of_all_of_them_draws_from_all(sources):
    mixture = Mixture(load_sources(sources), seed=1)
    drawn = {mixture.where(i).source.name for i in range(400)}
    assert drawn == {row["name"] for row in load_rows(sources)}
    for number in range(24):
        assert mixture.size(number) == mixture[number].source.shape[:2]


@pytest.mark.parametrize(
    ("entry", "says"),
    [
        ({"name": "a", "format": "coco"}, "no format 'coco'; there are magicbrush-hub"),
        ({"name": "a", "format": "pairs"}, "root is missing"),
        ({"name": "a", "format": "pairs", "root": ".", "rot": 1}, "no option rot"),
        ({"name": "a", "format": "pairs", "root": 3}, "root must be a path"),
        ({"format": "pairs", "root": "."}, "needs a name"),
        ({"name": "a", "format": "pairs", "root": "nowhere"}, "source a"),
        ({"name": "a", "format": "emu-edit", "files": "x"}, "measure on only"),
        ({"name": "a", "format": "pairs", "root": ".", "kind": "other"}, "there are edit"),
        ("pairs", "a row of name, format and options"),
    ],
)  # fmt: skip
def test_a_row_that_is_wrong_says_what_is(entry, says, tmp_path):
    with pytest.raises(DatasetError, match=says):
        open_source(entry, tmp_path)


def test_a_file_that_is_no_list_of_sources_is_refused(tmp_path):
    for text in ("a: 1", "- [", "[]"):
        (tmp_path / "s.yaml").write_text(text)
        with pytest.raises(DatasetError, match="s.yaml"):
            load_sources(tmp_path / "s.yaml")
    with pytest.raises(DatasetError, match="none.yaml"):
        load_sources(tmp_path / "none.yaml")


def test_a_size_that_cannot_be_read_is_a_broken_row(tmp_path):
    folder = write(tmp_path, ["pairs"], count=2).parent / "pairs"
    next(folder.glob("a/0*")).write_bytes(b"no picture")
    reader = open_reader("pairs", root=str(folder))
    with pytest.raises(BrokenRow):
        reader.size(0)
    mixture = Mixture([open_source({"name": "mine", "format": "pairs", "root": str(folder)})])
    assert {mixture.size(i) for i in range(4)} == {(1, 1), reader.size(1)}
    assert all(mixture[i].source.shape[:2] == reader.size(1) for i in range(4))


def test_a_list_that_is_there_is_not_written_over(tmp_path):
    """`data write --out .` took the place of one's own sources.yaml."""
    (tmp_path / "sources.yaml").write_text("mine")
    with pytest.raises(DatasetError, match="already holds sources.yaml; remove them or name another folder"):
        write(tmp_path, ["pairs"], count=1)
    assert [file.name for file in tmp_path.iterdir()] == ["sources.yaml"] and (tmp_path / "sources.yaml").read_text() == "mine"


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("names", [("train-0.parquet", "dev-0.parquet"), ("default/train/0.parquet", "default/test/0.parquet")])
def test_a_folder_of_several_splits_is_not_taken_for_one(tmp_path, names, streamed):
    """MagicBrush of the hub, as docs/make-your-own.md named it: the dev split was trained on."""
    made = write(tmp_path / "made", ["ultraedit"], count=2).parent / "ultraedit" / "data"
    for name in names:
        (tmp_path / "hub" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(next(made.glob("*.parquet")), tmp_path / "hub" / name)
    entry = {"name": "mine", "format": "ultraedit", "files": str(tmp_path / "hub")}
    opened = open_stream if streamed else open_source
    with pytest.raises(DatasetError, match="hub holds the splits (dev, train|test, train); name the files of one, such as .*hub/train-"):
        opened(entry)
    one = opened(entry | {"files": str(tmp_path / "hub" / names[0].replace("0.p", "*.p"))})
    assert (len(one.stream.shards.shards) if streamed else len(one.reader)) == (1 if streamed else 2)
    with pytest.raises(DatasetError, match="no parquet files at|no shards at"):
        opened(entry | {"files": str(tmp_path / "hub" / "none-*.parquet")})


def test_opening_the_registry_loads_no_library():
    code = "import sys; import fireedit_core.data.formats.registry; print(sorted({'datasets', 'pyarrow', 'torch'} & set(sys.modules)))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "datasets" not in found.stdout and "pyarrow" not in found.stdout


# --- the command ---------------------------------------------------------------------------------------------------------------------


def test_the_command_writes_what_is_asked_for_and_never_over_it(tmp_path, capsys):
    from fireedit_core.data.__main__ import main

    assert main(["write", "--out", str(tmp_path / "d"), "--formats", "pairs", "llava-instruct", "--count", "3"]) == 0
    assert [s.name for s in load_sources(tmp_path / "d" / "sources.yaml")] == ["pairs", "llava-instruct"]
    assert sorted(p.name for p in (tmp_path / "d").iterdir()) == ["llava-instruct", "pairs", "sources.yaml"]
    assert main(["write", "--out", str(tmp_path / "d"), "--formats", "pairs"]) == 2
    assert main(["write", "--out", str(tmp_path / "e"), "--formats", "parquet"]) == 2 and not (tmp_path / "e").exists()


def test_the_command_says_in_words_what_it_cannot_do(tmp_path, capsys, caplog):
    from fireedit_core.data.__main__ import main

    assert main(["sheet", "--out", str(tmp_path / "no folder" / "a.png"), "--count", "1"]) == 2
    assert "no folder" in caplog.text
    with pytest.raises(SystemExit):
        main(["sheet", "--out", "a.png", "--columns", "0"])
    assert "must be 1 or more, got 0" in capsys.readouterr().err


# --- streams -------------------------------------------------------------------------------------------------------------------------


def shards(folder, count: int = 12, pieces: int = 4) -> dict:
    """UltraEdit in several parquet files."""
    import datasets

    from fireedit_core.data import SceneGenerator
    from fireedit_core.data.writers import ultraedit

    generator = SceneGenerator(seed=3)
    ultraedit.write(folder / "whole", [generator.sample(i) for i in range(count)])
    whole = datasets.load_dataset("parquet", data_files=[str(p) for p in (folder / "whole").rglob("*.parquet")], split="train")
    for piece in range(pieces):
        whole.shard(pieces, piece, contiguous=True).to_parquet(str(folder / "shards" / f"part-{piece}.parquet"))
    return {"name": "ultra", "format": "ultraedit", "files": str(folder / "shards")}


def take(stream, count: int) -> list:
    return list(itertools.islice(iter(stream), count))


def pictures(samples) -> list[bytes]:
    return [s.source.tobytes() + s.instruction.encode() for s in samples]


def test_a_stream_gives_the_rows_of_the_reader_in_an_order_of_its_epoch(tmp_path):
    entry = shards(tmp_path)
    wanted = sorted(pictures(open_entry(entry)))
    stream = open_stream(entry, seed=5, buffer=4).stream
    first, second = pictures(stream), pictures(stream)
    assert sorted(first) == sorted(second) == wanted and first != second and stream.epoch == 2
    assert pictures(open_stream(entry, seed=5, buffer=4).stream) == first
    assert pictures(open_stream(entry, seed=6, buffer=4).stream) != first
    plain = open_stream(entry, seed=None).stream
    assert pictures(plain) == pictures(open_entry(entry))


def test_two_processes_have_disjoint_parts_of_it(tmp_path):
    entry, parts = shards(tmp_path), []
    for rank in range(2):
        stream = open_stream(entry, seed=1).stream
        stream.split(rank, 2)
        parts.append(pictures(stream))
    assert all(parts) and not set(parts[0]) & set(parts[1])
    assert sorted(parts[0] + parts[1]) == sorted(pictures(open_entry(entry)))
    with pytest.raises(DatasetError, match="4 shards cannot be dealt out to 5"):
        open_stream(entry).stream.split(0, 5)


@pytest.mark.parametrize("stop", [1, 5, 12, 17])
def test_a_resumed_stream_goes_on_with_the_next_row(tmp_path, stop):
    """In the middle of a block, of an epoch, at its end and in the next one."""
    entry = shards(tmp_path)
    make = lambda: StreamMixture([open_stream(entry, seed=2, buffer=4)], seed=2)  # noqa: E731
    whole = pictures(take(make(), 24))
    stopped = make()
    assert pictures(take(stopped, stop)) == whole[:stop]
    state = stopped.state_dict()
    resumed = make()
    resumed.load_state_dict(state)
    assert pictures(take(resumed, 24 - stop)) == whole[stop:]


def test_a_state_of_another_stream_is_refused(tmp_path):
    entry = shards(tmp_path)
    state = open_stream(entry, seed=2).stream.state_dict()
    with pytest.raises(DatasetError, match="seed 2 there, 3 here"):
        open_stream(entry, seed=3).stream.load_state_dict(state)


def test_a_broken_row_of_a_stream_is_left_out_and_counted(tmp_path):
    import datasets

    entry = shards(tmp_path)
    file = tmp_path / "shards" / "part-1.parquet"
    table = datasets.load_dataset("parquet", data_files=str(file), split="train").cast_column("source_image", datasets.Image(decode=False))
    rows = [dict(row) for row in table]
    rows[1]["source_image"] = {"bytes": b"no picture", "path": None}
    datasets.Dataset.from_list(rows).cast_column("source_image", datasets.Image()).to_parquet(str(file))
    stream: StreamedReader = open_stream(entry, seed=1, buffer=4).stream
    assert len(list(stream)) == 11 and sum(stream.skipped.values()) == 1


def test_streams_of_all_kinds_in_one_mixture(sources):
    """Parquet and tar shards, and formats that lie on disk; every draw says where it is from."""
    mixture = StreamMixture(load_streams(sources, seed=1) + [open_stream(_tar(sources), sources.parent, seed=1)], seed=4)
    samples = take(mixture, 80)
    assert {s.meta["source"] for s in samples} == {*(row["name"] for row in load_rows(sources)), "pairs-tar"}
    assert all(mixture.where(i).name == s.meta["source"] for i, s in enumerate(samples))


def _tar(sources) -> dict:
    import yaml

    return yaml.safe_load(sources.read_text())["streams"][0]
