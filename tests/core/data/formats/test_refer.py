# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import json
import os
import pickle
import pickletools

import numpy as np
import pytest

from fireedit_core.data import SceneGenerator
from fireedit_core.data.formats import BrokenRow, DatasetError
from fireedit_core.data.formats.painting import paint
from fireedit_core.data.formats.refer import GRefCoco, RefCoco, load_refs, segmentation_mask, unpacked
from fireedit_core.data.writers import refer


@pytest.fixture(scope="module")
def referred(scenes):
    """Scenes whose instruction refers to an object."""
    found = [s for s in scenes if s.target_index >= 0]
    assert len(found) >= 5
    return found


@pytest.fixture
def refcoco(tmp_path, referred):
    """root and change(what, edit): the set on disk, and a way to alter its refs or its instances."""
    refer.write_refcoco(tmp_path, referred)
    return tmp_path, changer(tmp_path / "refcoco" / "refs(unc).p")


def changer(refs_file):
    def change(edit, what="refs"):
        instances = refs_file.parent / "instances.json"
        if what == "refs":
            refs = load_refs(refs_file)
            edit(refs)
            refs_file.write_bytes(json.dumps(refs).encode() if refs_file.suffix == ".json" else pickle.dumps(refs, 2))
        else:
            tables = json.loads(instances.read_text())
            edit(tables)
            instances.write_text(json.dumps(tables))

    return change


def whole(found, scene, mask):
    """What every row must be: the scene's picture, painted on the mask."""
    assert np.abs(found.source.astype(int) - scene.source).mean() < 6  # JPEG
    assert np.array_equal(found.mask, mask)
    assert np.array_equal(found.target, paint(found.source, mask, found.meta["colour"]))
    assert found.meta["sentence"] in found.instruction and found.meta["colour"] in found.instruction
    assert found.edit_type == "segmentation"


# -- RefCOCO ----------------------------------------------------------------------------------------------------------


def test_round_trip(refcoco, referred):
    root, _ = refcoco
    forms = {type(a["segmentation"]) for a in json.loads((root / "refcoco" / "instances.json").read_text())["annotations"]}
    assert forms == {list, dict}
    reader = RefCoco(root, root / "train2014")
    assert len(reader) == len(referred) and reader[-1].dataset == "refcoco"
    for found, scene in zip(reader, referred, strict=True):
        t = scene.target_index
        whole(found, scene, scene.object_masks[t])
        assert np.array_equal(found.boxes, scene.boxes[t : t + 1]) and found.boxes.dtype == np.float32
        assert found.labels == (found.meta["sentence"],) and found.labels[0] in (scene.referring, scene.referring.removeprefix("the "))


@pytest.mark.parametrize(("name", "by", "asked"), [("refcoco+", "unc", None), ("refcocog", "umd", None), ("refcocog", "google", "google")])
def test_the_other_sets(tmp_path, referred, name, by, asked):
    refer.write_refcoco(tmp_path, referred[:2], name, by)
    reader = RefCoco(tmp_path, tmp_path / "train2014", name, asked)
    assert len(list(reader)) == 2 and reader[0].dataset == name


def test_splits(tmp_path, referred):
    refer.write_refcoco(tmp_path, referred, splits=("train", "testA"))
    open_split = lambda split: RefCoco(tmp_path, tmp_path / "train2014", split=split)  # noqa: E731
    assert [s.id.split("/")[0] for s in open_split("testA")] == [str(n) for n in range(1, len(referred), 2)]
    assert len(open_split("train")) + len(open_split("testA")) == len(referred)
    with pytest.raises(DatasetError, match="splits testA, train, not 'val'"):
        open_split("val")


def test_sentences_are_drawn_by_epoch_and_repeat(refcoco):
    root, _ = refcoco
    one, two = (RefCoco(root, root / "train2014", seed=3) for _ in range(2))
    first, seen = [s.instruction for s in one], set()
    assert two[2].instruction == first[2]  # whatever was read before
    for epoch in range(12):
        one.choose(epoch)
        seen.add((one[0].id, one[0].meta["sentence"]))
    assert {key for key, _ in seen} == {"0/0", "0/1"} and len(seen) == 2
    one.choose(0)
    assert [s.instruction for s in one] == first
    assert [s.instruction for s in RefCoco(root, root / "train2014", seed=4)] != first


def test_sentences_are_lower_case_and_empty_ones_are_passed_over(refcoco):
    root, change = refcoco

    def edit(refs):
        refs[0]["sentences"] = [{"sent": " "}, {"sent": "", "raw": "Big  MAN\nleft"}, "x", {"raw": None}]

    change(edit)
    found = RefCoco(root, root / "train2014")[0]
    assert found.meta["sentence"] == "big man left" and found.id == "0/1"


def test_the_picture_is_named_by_instances(refcoco):
    root, change = refcoco
    assert not (root / "train2014" / load_refs(root / "refcoco" / "refs(unc).p")[0]["file_name"]).exists()
    (root / "train2014" / "COCO_train2014_000000001000.jpg").rename(root / "train2014" / "other.jpg")
    reader = RefCoco(root, root / "train2014")
    with pytest.raises(BrokenRow, match="broken picture"):
        reader[0]
    change(lambda tables: tables["images"][0].update(file_name="other.jpg"), "instances")
    assert RefCoco(root, root / "train2014")[0].source.shape == (128, 128, 3)


def test_broken_rows_are_counted_and_left_out(tmp_path, caplog):
    generator = SceneGenerator(split="validation", seed=5)
    scenes = [s for s in map(generator.sample, range(30)) if s.target_index >= 0][:14]
    refer.write_refcoco(tmp_path, scenes)
    refs_file = tmp_path / "refcoco" / "refs(unc).p"
    change, numbers = changer(refs_file), [ref["ann_id"] for ref in load_refs(refs_file)]

    def edit_refs(refs):
        refs[1].update(ann_id=-1)
        refs[2].update(image_id=None)
        refs[3].update(sentences=None)
        refs[4].update(ann_id=numbers[5])

    def edit_instances(tables):
        byid = {a["id"]: a for a in tables["annotations"]}
        byid[numbers[5]]["bbox"] = [1, 2, 3]
        byid[numbers[6]]["segmentation"] = []
        byid[numbers[7]]["segmentation"] = [[1, 2, 3, 4]]
        byid[numbers[8]]["segmentation"] = {"size": [128, 127], "counts": [128 * 127]}
        byid[numbers[9]]["segmentation"] = {"size": [128, 128], "counts": [5]}
        byid[numbers[10]]["segmentation"] = {"size": [128, 128], "counts": "\x7f"}
        byid[numbers[11]]["segmentation"] = [[3.1, 3.1, 3.2, 3.1, 3.2, 3.2]]
        tables["images"][12]["height"] = 99
        tables["images"][13]["file_name"] = "../refcoco/instances.json"

    change(edit_refs)
    change(edit_instances, "instances")
    reader = RefCoco(tmp_path, tmp_path / "train2014")
    assert [s.id.split("/")[0] for s in reader] == ["0"]
    assert dict(reader.skipped) == {
        "no annotation": 1, "no image": 1, "no sentence": 1, "another picture": 1, "no box": 1, "no segmentation": 1,
        "broken segmentation": 3, "another size": 2, "no pixels": 1, "a name that leaves the folder": 1,
    }  # fmt: skip
    assert caplog.text.count("is left out") == 13


def test_what_is_no_such_dataset(refcoco):
    root, change = refcoco
    images = root / "train2014"
    with pytest.raises(DatasetError, match="refcocox"):
        RefCoco(root, images, "refcocox")
    with pytest.raises(DatasetError, match="not 'berkeley'"):
        RefCoco(root, images, by="berkeley")
    with pytest.raises(DatasetError, match=r"there is no .*refs\(google\).p"):
        RefCoco(root, images, by="google")
    with pytest.raises(DatasetError, match=r"there is no .*refcoco\+"):
        RefCoco(root, images, "refcoco+")
    change(lambda tables: tables["images"][0].pop("id"), "instances")
    with pytest.raises(DatasetError, match="instances.json cannot be read .*id"):
        RefCoco(root, images)
    for text in ("{", "[]", '{"images": []}', '{"images": 1, "annotations": []}'):
        (root / "refcoco" / "instances.json").write_text(text)
        with pytest.raises(DatasetError, match="instances.json cannot be read"):
            RefCoco(root, images)
    (root / "refcoco" / "instances.json").unlink()
    with pytest.raises(DatasetError, match="instances.json cannot be read"):
        RefCoco(root, images)


# -- pickles ----------------------------------------------------------------------------------------------------------


class Evil:
    def __init__(self, call, *args):
        self.call, self.args = call, args

    def __reduce__(self):
        return self.call, self.args


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_a_pickle_that_calls_is_refused_and_does_not_run(refcoco, protocol):
    root, _ = refcoco
    mark, file = root / "ran", root / "refcoco" / "refs(unc).p"
    evil = pickle.dumps([{"split": "train", "x": Evil(os.system, f"touch {mark}")}], protocol)
    pickle.loads(evil)  # the trap works where nothing guards
    assert mark.exists()
    mark.unlink()
    file.write_bytes(evil)
    with pytest.raises(DatasetError, match=rf"refs\(unc\)\.p is not opened, as it asks for {os.system.__module__}\.system"):
        RefCoco(root, root / "train2014")
    assert not mark.exists()


@pytest.mark.parametrize(
    ("value", "asked"),
    [(Evil(eval, "1"), r"(builtins|__builtin__)\.eval"), (np.float32(1), "numpy"), ({1}, r"(builtins|__builtin__)\.set"),
     (DatasetError, "fireedit_core")],
)  # fmt: skip
def test_a_pickle_of_anything_but_plain_data_is_refused(tmp_path, value, asked):
    (tmp_path / "refs.p").write_bytes(pickle.dumps([{"x": value}], 2))
    with pytest.raises(DatasetError, match=f"asks for {asked}"):
        load_refs(tmp_path / "refs.p")


def test_a_pickle_with_a_persistent_id_is_refused(tmp_path):
    (tmp_path / "refs.p").write_bytes(b"\x80\x02X\x03\x00\x00\x00abcQ.")
    with pytest.raises(DatasetError, match="asks for the object 'abc'"):
        load_refs(tmp_path / "refs.p")


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_plain_data_comes_back(tmp_path, protocol):
    plain = [{"a": 1, "b": [2.5, None, True, -1, 2**80], "c": ("x", "é"), "d": {"e": []}}]
    (tmp_path / "refs.p").write_bytes(pickle.dumps(plain, protocol))
    assert load_refs(tmp_path / "refs.p") == plain


def test_strings_of_python_2(refcoco):
    """Its str is BINSTRING, bytes of no known encoding, where Python 3 writes BINUNICODE: here the opcodes are changed in place."""
    root, change = refcoco
    change(lambda refs: refs[0].update(sentences=[{"sent": "the caf~"}]))
    file = root / "refcoco" / "refs(unc).p"
    data = bytearray(file.read_bytes())
    for op, _, at in pickletools.genops(bytes(data)):
        if op.name == "BINUNICODE":
            data[at] = ord("T")
    file.write_bytes(bytes(data).replace(b"caf~", b"caf\xe9"))
    with pytest.raises(UnicodeDecodeError):
        pickle.loads(file.read_bytes())
    reader = RefCoco(root, root / "train2014")
    assert reader[0].meta["sentence"] == "the café" and len(list(reader)) == len(reader)


@pytest.mark.parametrize(
    ("data", "message"),
    [(b"", "cannot be read .EOFError"), (b"no pickle", "cannot be read"), (pickle.dumps([{"a": 1}], 2)[:-3], "cannot be read"),
     (pickle.dumps({"a": 1}, 2), "no list of refs"), (pickle.dumps([1], 2), "no list of refs")],
)  # fmt: skip
def test_a_broken_pickle(tmp_path, data, message):
    (tmp_path / "refs.p").write_bytes(data)
    with pytest.raises(DatasetError, match=message):
        load_refs(tmp_path / "refs.p")


# -- gRefCOCO ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["json", "p"])
def test_grefcoco_round_trip(tmp_path, scenes, form):
    refer.write_grefcoco(tmp_path, scenes, form)
    reader, counts = GRefCoco(tmp_path, tmp_path / "train2014"), []
    rows = iter(reader)
    for scene in scenes:
        if scene.target_index >= 0:
            t, found = scene.target_index, next(rows)
            whole(found, scene, scene.object_masks[t])
            assert np.array_equal(found.boxes, scene.boxes[t : t + 1]) and found.labels == (found.meta["sentence"],)
        found = next(rows)
        whole(found, scene, scene.object_masks.any(0))
        assert np.array_equal(found.boxes, scene.boxes) and found.labels == (found.meta["sentence"],) * len(scene.labels)
        counts.append(len(found.labels))
        found = next(rows)
        whole(found, scene, np.zeros(scene.mask.shape, bool))
        assert np.array_equal(found.target, found.source) and found.boxes.shape == (0, 4) and found.labels == ()
        assert not any(noun in found.meta["sentence"].split() for noun in scene.labels)
    assert next(rows, None) is None and max(counts) > 1 and not reader.skipped and found.dataset == "grefcoco"


def test_json_comes_before_the_pickle(tmp_path, scenes):
    refer.write_grefcoco(tmp_path, scenes[:1])
    (tmp_path / "grefcoco" / "grefs(unc).p").write_bytes(b"broken")
    assert len(GRefCoco(tmp_path, tmp_path / "train2014")) >= 2
    (tmp_path / "grefcoco" / "grefs(unc).json").write_text("{")
    with pytest.raises(DatasetError, match="json cannot be read"):
        GRefCoco(tmp_path, tmp_path / "train2014")
    for form in ("json", "p"):
        (tmp_path / "grefcoco" / f"grefs(unc).{form}").unlink()
    with pytest.raises(DatasetError, match=r"there is no .*grefs\(unc\).json"):
        GRefCoco(tmp_path, tmp_path / "train2014")


def test_crowds_are_skipped_and_odd_ids_are_broken(tmp_path, scenes):
    scene = next(s for s in scenes if s.target_index >= 0 and len(s.labels) >= 3)
    refer.write_grefcoco(tmp_path, [scene] * 5)
    change = changer(tmp_path / "grefcoco" / "grefs(unc).json")

    def crowd(tables):
        first = min(a["image_id"] for a in tables["annotations"])
        of_first = [a for a in tables["annotations"] if a["image_id"] == first]
        of_first[0]["iscrowd"] = 1

    change(crowd, "instances")
    found = GRefCoco(tmp_path, tmp_path / "train2014")[1]  # all objects of the first scene
    whole(found, scene, scene.object_masks[1:].any(0))
    assert np.array_equal(found.boxes, scene.boxes[1:])

    def edit(refs):
        number = min(refs[1]["ann_id"])
        refs[0].update(ann_id=[number])
        refs[3].update(ann_id=[])
        refs[4].update(ann_id=refs[4]["ann_id"][0])
        refs[5].update(category_id=[7])  # no target, yet a category
        refs[6].update(ann_id=[-1, *refs[6]["ann_id"]])

    change(edit)
    reader = GRefCoco(tmp_path, tmp_path / "train2014")
    assert len(list(reader)) == 10
    assert dict(reader.skipped) == {"only crowds": 1, "no ann_id": 2, "no annotation": 2}
    change(lambda refs: refs[5].update(category_id=-1))
    assert GRefCoco(tmp_path, tmp_path / "train2014")[5].labels == ()


def test_crowds_of_refcoco_stay(refcoco):
    root, change = refcoco
    change(lambda tables: [a.update(iscrowd=1) for a in tables["annotations"]], "instances")
    assert RefCoco(root, root / "train2014")[0].mask.any()


# -- segmentations ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", refer.FORMS)
def test_forms_hold_a_mask_exactly(form):
    rng = np.random.default_rng(2)
    masks = [rng.random((13, 9)) < 0.4, np.ones((4, 6), bool), np.eye(5, dtype=bool), np.kron(np.eye(3), np.ones((60, 70))) > 0]
    masks.append(np.pad(np.zeros((3, 3), bool), 3, constant_values=True))  # with a hole
    for mask in masks:
        assert np.array_equal(segmentation_mask(json.loads(json.dumps(form(mask))), *mask.shape), mask)


def test_runs_go_down_the_columns_and_start_with_background():
    expected = np.array([[0, 1, 1], [0, 1, 0]], bool)
    assert np.array_equal(segmentation_mask({"size": [2, 3], "counts": [2, 3, 1]}, 2, 3), expected)
    assert np.array_equal(segmentation_mask({"size": [2, 3], "counts": [0, 2, 4]}, 2, 3), np.array([[1, 0, 0]] * 2, bool))


def test_packed_runs_of_coco():
    """A string that COCO's own tools give, with a number of two characters, negative differences and a long last run."""
    assert unpacked("61X13mN000`0") == [6, 1, 40, 4, 5, 4, 5, 4, 21]
    mask = segmentation_mask({"size": [9, 10], "counts": "61X13mN000`0"}, 9, 10)
    assert mask.sum() == 13 and mask[6, 0] and refer.packed(mask)["counts"] == "61X13mN000`0"


def test_polygons_unite_and_count_pixels_by_their_centre():
    square = lambda x0, y0, x1, y1: [x0, y0, x1, y0, x1, y1, x0, y1]  # noqa: E731
    mask = segmentation_mask([square(1, 1, 5, 5), square(3.3, 3.7, 7.7, 7.3)], 9, 10)
    expected = np.zeros((9, 10), bool)
    expected[1:5, 1:5] = True  # the overlap stays in
    expected[4:7, 3:8] = True
    assert np.array_equal(mask, expected)
    y, x = np.mgrid[:40, :50]
    triangle = segmentation_mask([[0, 0, 40, 0, 0, 40]], 40, 50)
    assert np.array_equal(triangle[x + y != 39], (x + y < 39)[x + y != 39])  # on the line itself either is right
    assert segmentation_mask([square(-20, -20, 99, 99)], 4, 6).all()  # beyond the picture


@pytest.mark.parametrize(
    "segmentation",
    [None, [], "x", [[1, 2, 3, 4, 5]], [[1, 2, 3, 4, 5, 6, 7]], [[1, 2, 3, 4, 5, "6"]], [[1, 2, 3, 4, 5, float("nan")]], [1, 2, 3, 4, 5, 6],
     [[1, 2, 3, 4, 5, 1e30]], {"counts": [8]}, {"size": [4, 2], "counts": [8]}, {"size": [2, 4], "counts": [9]}, {"size": [2, 4]},
     {"size": [2, 4], "counts": [-1, 9]}, {"size": [2, 4], "counts": [8.0]}, {"size": [2, 4], "counts": "8X"},
     {"size": [2, 4], "counts": "é"}],
)  # fmt: skip
def test_what_is_no_segmentation(segmentation):
    with pytest.raises(BrokenRow):
        segmentation_mask(segmentation, 2, 4)


def test_writing_needs_masks(tmp_path):
    bare = [SceneGenerator(split="validation", masks=False).sample(0)]
    for write in (refer.write_refcoco, refer.write_grefcoco):
        with pytest.raises(ValueError, match="no object masks"):
            write(tmp_path, bare)
