# SPDX-License-Identifier: GPL-3.0-or-later
"""The photo way with all that people give it by mistake: a right result, or words that name the node and what mends it."""

from __future__ import annotations

import importlib.util
import json
import math
import random
import re
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tests.host.inside.pack import nodes  # first: it makes the pack importable

import folder_paths  # isort: skip
from fireedit_core.grounding.answer import KINDS  # isort: skip
from fireedit_core.regions import Regions  # isort: skip
from fireedit_core.thumbnail import fingerprint, resembles  # isort: skip
from fireedit_pack.nodes.errors import FireEditNodeError  # isort: skip
from host_setup.host_lookup import REPO  # isort: skip

NAN = math.nan


def photograph(name="astronaut", side=256) -> Image.Image:
    with Image.open(REPO / "web" / "examples" / f"fireedit_photo_{name}.jpg") as file:
        return file.convert("RGB").resize((side, side))


def host_nodes():
    """The host's own nodes.py; the repository's folder of that name comes first here."""
    if "the_hosts_nodes" not in sys.modules:
        spec = importlib.util.spec_from_file_location("the_hosts_nodes", Path(folder_paths.__file__).with_name("nodes.py"))
        module = sys.modules["the_hosts_nodes"] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    return sys.modules["the_hosts_nodes"]


def image_of(picture: Image.Image) -> torch.Tensor:
    return torch.from_numpy(np.array(picture)).float()[None] / 255


@pytest.fixture(scope="module")
def detector():
    return nodes.FireEditDetectorLoader.execute("photo-detector (built in)")[0]


@pytest.fixture(scope="module")
def photo():
    return image_of(photograph())


@pytest.fixture(scope="module")
def found(photo, detector):
    """One person with a mask, without the helmet that she holds."""
    regions = detect(photo, detector)[0]
    assert regions[0].labels == ("person", "helmet")
    return masked(photo, [regions[0].select([0])])[0]


def detect(image, detector):
    return nodes.FireEditRegionDetect.execute(image=image, score_threshold=0.35, iou_threshold=0.5, max_regions=32, detector=detector)


def masked(image, regions):
    return nodes.FireEditRegionMasks.execute(image, regions, 32)


def ground(image, regions, instruction="remove the person", answer=""):
    return nodes.FireEditGround.execute(image, instruction, regions, answer)


def edit(image, answer="remove", mask=None, regions=None, backdrop=None):
    return nodes.FireEditQuickEdit.execute(image, answer, mask, regions, backdrop)


def select(image, regions, selection=""):
    return nodes.FireEditRegionSelect.execute(image, selection, regions)


def takers(detector, regions):
    """name -> a call of every node of the photo way that takes a picture."""
    return {
        "FireEdit Region Detect": lambda x: detect(x, detector),
        "FireEdit Region Masks": lambda x: masked(x, regions),
        "FireEdit Ground": lambda x: ground(x, regions),
        "FireEdit Quick Edit": lambda x: edit(x, regions=regions),
        "FireEdit Region Select": lambda x: select(x, regions),
    }


@pytest.mark.parametrize(
    ("spoil", "said"),
    (
        (lambda x: torch.where(x == x[0, 0, 0, 0], NAN, x), "not numbers"), (lambda x: x * math.inf, "not numbers"),
        (lambda x: x * 255, "looks like 0..255"), (lambda x: (x * 255).byte(), "looks like 0..255"),
        (lambda x: x * 2 - 1, "looks like -1..1"),
        (lambda x: x[..., :2], "expected an IMAGE"), (lambda x: x[:0], "expected an IMAGE"), (lambda x: x[:, :, :0], "expected an IMAGE"),
        (lambda x: x[0, ..., 0], "expected an IMAGE"), (lambda x: torch.cat([x, x], -1)[..., :5], "expected an IMAGE"),
    ),
    ids=("nan", "inf", "0..255", "bytes", "-1..1", "2 channels", "no picture", "no width", "2 dimensions", "5 channels"),
)  # fmt: skip
def test_a_picture_that_is_none(photo, detector, found, spoil, said):
    for name, call in takers(detector, found).items():
        with pytest.raises(FireEditNodeError, match=f"^{name}: .*{said}"):
            call(spoil(photo))


@pytest.mark.parametrize("shape", ((1, 1), (2, 2), (1, 256)), ids=str)
@pytest.mark.parametrize("channels", (1, 3, 4))
def test_tiny_grey_and_alpha(photo, detector, shape, channels):
    height, width = shape
    image = torch.cat([photo, photo[..., :1]], -1)[:, :height, :width, :channels]
    regions = detect(image, detector)[0]
    made, mask, _ = masked(image, regions).args
    assert not len(made[0]) and mask.shape == (1, height, width) and not mask.any()
    with pytest.raises(FireEditNodeError, match="FireEdit Ground: no person was found.*draw a box in FireEdit Region Select"):
        ground(image, made)
    with pytest.raises(FireEditNodeError, match="FireEdit Quick Edit: no region came, so nothing is there to remove. Lower"):
        edit(image, regions=made)
    brighter = edit(image, "brighter").args[0]
    assert brighter.shape == image.shape and torch.equal(brighter[..., 3:], image[..., 3:])
    assert select(image, regions).args[1].shape == (1, height, width)


def _exif(path, picture):
    exif = Image.Exif()
    exif[0x0112] = 6  # turned a quarter
    picture.save(path, exif=exif)


def _deep(path, picture):
    Image.fromarray(np.array(picture.convert("L")).astype(np.uint16) * 257).save(path)


FILES = {  # ending, how it is written, its frames
    "grey and alpha.png": (lambda p, x: Image.merge("LA", (x.convert("L"), x.convert("L").point(lambda v: 255))).save(p), 1),
    "moving.gif": (lambda p, x: x.save(p, save_all=True, append_images=[x.rotate(2), x.rotate(4)]), 3),
    "moving.webp": (lambda p, x: x.save(p, save_all=True, append_images=[x.rotate(2)]), 2),
    "moving.png": (lambda p, x: x.save(p, save_all=True, append_images=[x.rotate(2)]), 2),
    "cmyk.jpg": (lambda p, x: x.convert("CMYK").save(p), 1),
    "palette.png": (lambda p, x: x.convert("P").save(p, transparency=0), 1),
    "two colours.png": (lambda p, x: x.convert("1").save(p), 1),
    "turned.jpg": (_exif, 1),
    "deep.png": (_deep, 1),
    "hsv.tiff": (lambda p, x: x.convert("LAB").save(p), 1),
}


@pytest.mark.parametrize("name", FILES)
def test_files_of_every_kind_through_load_image(tmp_path, monkeypatch, detector, name):
    """As the host loads them: every frame is an edit of its own, outside of which nothing moves, or it is said that nothing is there."""
    monkeypatch.setattr(folder_paths, "get_input_directory", lambda: str(tmp_path))
    write, frames = FILES[name]
    write(tmp_path / name, photograph())
    image = loaded_by_the_host(name)
    assert image.shape[0] <= frames and tuple(image.shape[1:]) == (256, 256, 3)
    regions = masked(image, detect(image, detector)[0])[0]
    if any("person" not in one.labels for one in regions):
        with pytest.raises(FireEditNodeError, match='FireEdit Ground: .*(draw a box|say "the main object")'):
            ground(image, regions)
        return
    scored, _, answer = ground(image, regions, "make the person grey").args
    edited, touched, report = edit(image, answer, regions=scored).args
    assert edited.shape == image.shape and torch.equal(edited[touched == 0], image[touched == 0]) and bool((touched > 0).any())
    assert report.count("recoloured person") == image.shape[0]


def loaded_by_the_host(name: str) -> torch.Tensor:
    """Skips what this host's own Load Image does not read: newer ones (0.33.0) decode with FFmpeg, which has no LAB TIFF."""
    try:
        return host_nodes().LoadImage().load_image(name)[0]
    except Exception as error:
        if type(error).__module__.split(".")[0] != "av":
            raise
        pytest.skip(f"this host cannot read {name}: {error}")


INSTRUCTIONS = {
    "remove the horse": "no horse was found in the picture. Found: person",
    "remove the frobnicator": "no name that is known.*Found: person",
    "": "empty. Say what to edit", " \n ": "empty", "\u200b": "empty", "?!": "no words. Say what to edit", "🐱🔥": "no words",
    "1234": "no words",
    "x" * 10_000: "10000 characters; up to 1000 are read", "remove the person " * 600: "10800 characters",
    "remove the " + "man next to the " * 100 + "dog": "characters; up to", "remove 🐱": "no name that is known",
    "הסר את האיש": "Hebrew.*Region Select", "إزالة الشخص": "Arabic", "удали человека": "Cyrillic", "把人移除 please": "Chinese.*in English",
    "make it 红色": "'红色' looks like Chinese", "make the person אדום": "'אדום' looks like Hebrew", "entferne die Person": "German",
    "don't remove the person": "only says what must stay", "remove the 5000th person": "asks for number 5000, but 1 region fits",
    "remove everything but the lantern": "no name that is known",
}  # fmt: skip
READ = (
    "REMOVE THE PERSON!!!", "🐱 remove the person 🙏", "\u202e remove the person", "remove the \u200bper\u200bson", "remove the person\x00",
    "remove the person\ud83d", "ｒｅｍｏｖｅ ｔｈｅ ｐｅｒｓｏｎ", "remove הסר the person",
)  # fmt: skip


@pytest.mark.parametrize("instruction", INSTRUCTIONS, ids=lambda text: repr(text[:30]))
def test_an_instruction_that_cannot_be_followed(photo, found, instruction):
    with pytest.raises(FireEditNodeError, match=f"(?s)^FireEdit Ground: .*{INSTRUCTIONS[instruction]}") as caught:
        ground(photo, found, instruction)
    str(caught.value).encode()


@pytest.mark.parametrize("instruction", READ, ids=ascii)
def test_an_odd_instruction_that_can(photo, found, instruction):
    _, mask, answer = ground(photo, found, instruction).args
    assert torch.equal(mask[0], found[0].masks[0]) and json.loads(answer)["kind"] == "remove"
    answer.encode()


def _mask(photo):
    mask = torch.zeros(1, *photo.shape[1:3])
    mask[:, 60:120, 80:120] = 1
    return mask


@pytest.mark.parametrize(
    ("spoil", "said"),
    (
        (lambda m: m * 0, "the mask is empty. Paint a mask"), (lambda m: m / 0, "not numbers"), (lambda m: m * 255, "0..255"),
        (lambda m: -m, "from -1"), (lambda m: m[:, :100], "the mask has shape .1, 100, 256.*Connect a mask of this very picture"),
        (lambda m: m.repeat(3, 1, 1), "the mask has shape .3, 256, 256.*one each"), (lambda m: m[None], "the mask has shape"),
        (lambda m: m * 0 + 1, "leaves nothing of the picture"), (lambda m: m[:0], "the mask is empty"),
    ),
    ids=("black", "nan", "0..255", "negative", "another size", "another number", "4 dimensions", "white", "none"),
)  # fmt: skip
def test_a_mask_that_is_none(photo, spoil, said):
    with pytest.raises(FireEditNodeError, match=f"(?s)^FireEdit Quick Edit: .*{said}"):
        edit(photo, mask=spoil(_mask(photo)))
    with pytest.raises(FireEditNodeError, match="^FireEdit Quick Edit: "):
        edit(photo.repeat(2, 1, 1, 1), mask=spoil(_mask(photo)))


def test_a_faint_mask_is_said(photo):
    edited, touched, report = edit(photo, "recolour: blue", _mask(photo) * 0.3).args
    assert "nowhere brighter than 0.30" in report and "3.7% of the picture" in report and float(touched.max()) <= 0.3 + 1e-6
    assert not torch.equal(edited, photo) and "nowhere brighter" not in edit(photo, "recolour: blue", _mask(photo)).args[2]
    assert "removed the thing (3.7% of the picture)" in edit(photo, mask=_mask(photo) * 0.3).args[2]


@pytest.mark.parametrize("kind", (torch.bool, torch.uint8, torch.float16))
def test_masks_of_other_types_are_masks(photo, kind):
    assert torch.equal(edit(photo, "grey", _mask(photo).to(kind)).args[0], edit(photo, "grey", _mask(photo)).args[0])


def regions(*boxes, size=(256, 256), label="person", **more):
    corners = torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)
    return Regions(corners, torch.full((len(boxes),), 0.8), (label,) * len(boxes), size, **more)


HERE = (40, 40, 120, 200)
REGIONS = {
    "another size": ([regions((0, 0, 5, 5), size=(50, 60))], "height 50 and width 60.*Connect the same picture"),
    "two": ([regions(HERE)] * 2, "1 picture came, but regions of 2 pictures"), "no record": ([], "regions of 0 pictures"),
    "a record": (regions(HERE), "regions must be those of a node of FireEdit"), "a text": ("regions", "got str"),
    "masks not finite": ([regions(HERE, masks=torch.full((1, 256, 256), NAN))], "masks of the regions have values"),
    "masks of 255": ([regions(HERE, masks=torch.full((1, 256, 256), 255.0))], "from 255 to 255 instead of 0..1"),
    "another picture": ([regions(HERE, picture=fingerprint(image_of(photograph("flower")).movedim(-1, 1)[0]))], "found on another picture"),
}  # fmt: skip


@pytest.mark.parametrize("case", REGIONS)
def test_regions_that_do_not_belong_to_it(photo, detector, case):
    bad, said = REGIONS[case]
    for name, call in takers(detector, bad).items():
        if name != "FireEdit Region Detect":
            with pytest.raises(FireEditNodeError, match=f"(?s)^{name}: .*{said}"):
                call(photo)


def test_regions_serve_a_picture_that_was_edited(photo, detector, found):
    """One detection for several edits, one after the other: also when light, colours or all of the background were changed."""
    assert found[0].picture == fingerprint(photo.movedim(-1, 1)[0])
    removed = edit(photo, regions=found).args[0]
    behind = edit(photo, "background: blue", regions=found).args[0]
    for changed in (removed, behind, photo * 0.5, 1 - (1 - photo) * 0.6, photo.mean(-1, keepdim=True)):
        assert ground(changed, found).args[1].any()
    assert not resembles(found[0].picture, fingerprint(photo.flip(1).movedim(-1, 1)[0]))
    with pytest.raises(FireEditNodeError, match=r"number 2 of 2"):
        ground(torch.cat([photo, photo.flip(1)]), found * 2)


@pytest.mark.parametrize("box", ((9, 9, 9, 9), (-90, -90, -9, -9), (300, 300, 400, 400)), ids=("no area", "left of it", "right of it"))
def test_regions_outside_of_the_picture(photo, box):
    bad = [regions(box)]
    with pytest.raises(FireEditNodeError, match="no person was found.*no area inside of the picture.*draw a box"):
        ground(photo, bad)
    with pytest.raises(FireEditNodeError, match="^FireEdit Quick Edit: no region came, so nothing is there to remove"):
        edit(photo, regions=bad)
    assert "look at it" in masked(photo, bad).args[2]


def test_black_masks_are_said(photo):
    black = [regions(HERE, masks=torch.zeros(1, 256, 256))]
    assert "The mask is black" in str(ground(photo, black).ui)
    with pytest.raises(FireEditNodeError, match="is black. Make it with FireEdit Region Masks"):
        edit(photo, regions=black)
    assert masked(photo, black).args[1].any()


def test_thirty_of_a_kind(photo):
    boxes = [(8 * i + 1, 20 + 3 * i, 8 * i + 8, 60 + 3 * i) for i in range(30)]
    many = masked(photo, [regions(*boxes)])[0]
    assert len(many[0]) == 30
    output = ground(photo, many)
    assert "a guess among 30" in str(output.ui) and "Region Select" in str(output.ui)
    assert max(json.loads(output.args[2])["targets"], key=lambda t: t["score"])["score"] < 0.1
    every = ground(photo, many, "remove all people")
    assert len([t for t in json.loads(every.args[2])["targets"] if t["score"] >= 0.5]) == 30
    third = json.loads(ground(photo, many, "remove the third person from the left").args[2])["targets"][0]
    assert third["box"] == list(map(float, boxes[2]))
    assert edit(photo, every.args[2], regions=every.args[0]).args[1].any()


def test_a_label_of_any_letters(photo):
    named = [regions(HERE, label="per\x1b[31mson\ud83d\n" + "x" * 5000)]
    assert named[0].labels[0].startswith("per [31mson x") and len(named[0].labels[0]) <= 200
    for output in (ground(photo, named, "cut out the main object"), select(photo, named), masked(photo, named)):
        json.dumps(output.ui if isinstance(output.ui, dict) else output.ui.as_dict(), ensure_ascii=False).encode()


@pytest.mark.parametrize("answer", (None, 5, ["remove"]))
def test_an_answer_that_is_no_text(photo, found, answer):
    with pytest.raises(FireEditNodeError, match="^FireEdit Quick Edit: the answer must be text"):
        edit(photo, answer, _mask(photo))
    if answer:
        with pytest.raises(FireEditNodeError, match="^FireEdit Ground: the answer must be text"):
            ground(photo, found, "remove the person", answer)


@pytest.mark.parametrize(
    "backdrop", (lambda x: x * NAN, lambda x: x[:0], lambda x: x.repeat(3, 1, 1, 1), lambda x: x[..., :2], lambda x: x * 255)
)
def test_a_backdrop_that_is_none(photo, backdrop):
    with pytest.raises(FireEditNodeError, match="^FireEdit Quick Edit: "):
        edit(photo, "background: picture", _mask(photo), backdrop=backdrop(photo))


def test_no_such_model():
    loaders = {"FireEdit Detector Loader": nodes.FireEditDetectorLoader, "FireEdit Segmenter Loader": nodes.FireEditSegmenterLoader}
    for name, loader in loaders.items():
        for wanted in ("nothing", "../../etc/passwd", "", "C:\\x.pt"):
            assert str(loader.validate_inputs(wanted)).startswith(f"{name}: there is no")
            with pytest.raises(FireEditNodeError, match=f"^{name}: .*Put "):
                loader.execute(wanted)
    with pytest.raises(FireEditNodeError, match="^FireEdit Region Detect: nothing is there to look with"):
        nodes.FireEditRegionDetect.execute(image=torch.rand(1, 8, 8, 3))


# --- texts of JSON, broken in many ways ------------------------------------------------------------------------------------------------

VALUES = (
    None, True, -1, 0, 1e308, -1e308, 0.5, "", "x", "\u202e\u05d0", "\ud83d", "\x1b", [], [[]], {}, {"box": 1}, [None], [0, 0, 0, 0],
    [1, 2, 3],
    NAN, math.inf, 10**30, "9" * 3000, [[0, 0, 1e9, 1e9]], [["a"] * 4], {"a": {"b": []}}, {"0": [1, 2, 30, 40]}, [0, 0, 30, 30], [900],
)  # fmt: skip


def broken(record: dict, rng: random.Random) -> str:
    """The record with one to four faults: values of other kinds, keys lost, renamed and doubled, letters lost, changed and repeated."""
    text = json.dumps(record)
    value = json.loads(text)
    for _ in range(rng.randint(0, 3)):
        place = value
        while True:
            key = rng.choice(list(place) if isinstance(place, dict) else range(len(place)))
            if isinstance(place[key], (dict, list)) and place[key] and rng.random() < 0.7:
                place = place[key]
                continue
            break
        action = rng.randrange(4)
        if action == 0 and isinstance(place, dict):
            place[f"{key}{rng.choice(('s', '_', ' ', chr(0x301)))}"] = place.pop(key)
        elif action == 1:
            del place[key]
        else:
            place[key] = rng.choice(VALUES)
        if not isinstance(value, dict) or not value:
            break
        if not place:
            break
    text = json.dumps(value, ensure_ascii=rng.random() < 0.5)
    for _ in range(rng.choice((0, 0, 1, 2))):
        at = rng.randrange(max(len(text), 1))
        cut = rng.randrange(4)
        if cut == 0:
            text = text[:at] + text[at + rng.randint(1, 9) :]
        elif cut == 1:
            text = text[:at] + rng.choice('{}[]",:0\\\u2019\ud83d\x00é') + text[at:]
        elif cut == 2:
            text = text[:at] + text[at : at + 40] * rng.randint(2, 60) + text[at + 40 :]
        else:
            text = rng.choice((text[:at], f"[{text}, {text}]", f"[{text}]", f"\ufeff{text}", "[" * 3000 + text, f"```json\n{text}\n```"))
    return text


ANSWER = {
    "kind": "recolour", "thing": "person", "after": "dark red", "keep": ["the wall"], "image_size": [64, 64], "note": "sure",
    "targets": [{"box": [4.0, 4, 40, 60], "score": 0.9, "label": "person"}, {"box": [1, 2, 30, 40], "score": 0.1, "label": "chair"}],
}  # fmt: skip
SELECTION = {
    "mode": "restrict", "picked": [0, 1], "boxes": [{"box": [5, 5, 30, 30], "name": "cat"}], "moved": {"0": [5, 5, 40, 40]},
    "names": {"1": "left cat"},
}  # fmt: skip


@pytest.fixture(scope="module")
def small():
    """A small picture, so that hundreds of edits take no time, and two regions on it."""
    return image_of(photograph(side=64)), [regions((4, 4, 40, 60), (1, 2, 30, 40), size=(64, 64))]


def test_an_answer_broken_in_three_hundred_ways(small):
    picture, known = small
    outcomes = {"done": 0, "refused": 0}
    for seed in range(300):
        text = broken(ANSWER, random.Random(seed))
        for name, call in {
            "FireEdit Ground": lambda text=text: ground(picture, known, "remove the person", text),
            "FireEdit Quick Edit": lambda text=text: edit(picture, text, regions=known),
        }.items():
            try:
                output = call()
            except FireEditNodeError as error:
                said = str(error)
                assert said.startswith(f"{name}: ") and 30 < len(said) < 900 and "Traceback" not in said, (seed, said)
                said.encode()
                outcomes["refused"] += 1
                continue
            outcomes["done"] += 1
            json.dumps(output.ui if isinstance(output.ui, dict) else output.ui.as_dict(), ensure_ascii=False).encode()
            if name == "FireEdit Ground":
                record = json.loads(output.args[2]) if output.args[2] else {}
                assert not record or record["kind"] in KINDS
                assert torch.isfinite(output.args[1]).all() and output.args[1].shape == (1, 64, 64)
            else:
                edited, touched, _ = output.args
                assert edited.shape == picture.shape and torch.equal(edited[touched == 0], picture[touched == 0])
    assert min(outcomes.values()) > 60, outcomes  # both were met, often


def test_a_selection_broken_in_two_hundred_ways(small):
    picture, known = small
    outcomes = {"done": 0, "refused": 0}
    for seed in range(200):
        text = broken(SELECTION, random.Random(seed))
        valid = nodes.FireEditRegionSelect.validate_inputs(text)
        assert valid is True or (valid.startswith("FireEdit Region Select: ") and len(valid) < 900), (seed, valid)
        try:
            output = select(picture, known, text)
        except FireEditNodeError as error:
            assert re.match("FireEdit Region Select: .{20,900}$", str(error), re.DOTALL), (seed, str(error))
            str(error).encode()
            outcomes["refused"] += 1
            continue
        outcomes["done"] += 1
        assert valid is True
        chosen = output.args[0][0]
        assert torch.isfinite(chosen.boxes).all() and float(chosen.boxes.max()) <= 64
        "".join(chosen.labels).encode()
        ground(picture, output.args[0], "cut out the main object")
    assert min(outcomes.values()) > 30, outcomes


def test_a_region_that_sticks_out_keeps_its_mask(photo):
    """An answer cuts boxes to the picture; the region that it speaks of is still known by it."""
    mask = torch.zeros(1, 256, 256)
    mask[0, 100:120, 100:140] = 1
    stuck = [regions((-40, -40, 300, 300), masks=mask)]
    answer = ground(photo, stuck, "make the person grey").args[2]
    assert torch.equal(edit(photo, answer, regions=stuck).args[1] > 0, mask > 0)


def test_the_whole_picture_is_the_whole_picture(photo, detector, found):
    """ "Make it brighter" says no thing: what was found in the picture is not edited alone, and nothing needs to be found."""
    for image, regions_ in ((photo, found), (photo * 0, detect(photo * 0, detector)[0])):
        scored, mask, answer = ground(image, regions_, "make it brighter").args
        assert float(mask.min()) == 1 == float(edit(image, answer, regions=scored).args[1].min())
    assert 0.2 < float(edit(photo, "brighter", regions=found).args[1].mean()) < 0.6  # by hand, the regions count


def test_other_names_for_a_thing_are_nothing_that_stays(photo):
    """A small detector calls a cat "person .59" and "cat .40": what is told, and no hindrance for a fill."""
    box, other = (60, 40, 200, 250), (62, 41, 198, 249)
    mask = torch.zeros(2, 256, 256)
    mask[0, 60:200, 80:180], mask[1, 40:250, 60:200] = 1, 1
    two = [Regions(torch.tensor([other, box]).float(), torch.tensor([0.4, 0.59]), ("cat", "person"), (256, 256), mask)]
    output = ground(photo, two, "remove the cat")
    said = str(output.ui)
    assert "takes it for a person (0.59) rather than a cat (0.40); this is its second opinion" in said
    assert json.loads(output.args[2])["targets"][0]["score"] < 0.7
    touched = edit(photo, output.args[2], regions=output.args[0]).args[1]
    assert float(touched[0, 55, 120]) > 0  # the rim of the cat, which lies in the mask of the person
    assert "takes it for a person (0.59), but it may be a cat (0.40)" in str(ground(photo, two, "make the person grey").ui)
    with pytest.raises(FireEditNodeError, match=r"taken for a person \(0.59\) or a cat \(0.40\)"):
        ground(photo, two, "remove the zebra")
    alone = [two[0].select([1])]
    assert "takes it" not in str(ground(photo, alone, "make the person grey").ui)


def test_a_region_as_thin_as_a_hair_makes_no_answer_that_cannot_be_read(photo):
    """A detector may give a box of a fortieth of a pixel; an answer writes tenths."""
    thin, real = (0, 0, 128, 0.025), (10, 10, 60, 90)
    scored, mask, answer = ground(photo, [regions(thin, real, (5, 5, 5.04, 200))], "make all people grey").args
    assert [target["box"] for target in json.loads(answer)["targets"]] == [list(map(float, real))] and mask.sum() == 50 * 80
    assert edit(photo, answer, regions=scored).args[1].sum() == 50 * 80
