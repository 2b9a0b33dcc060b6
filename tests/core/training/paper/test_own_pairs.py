# SPDX-License-Identifier: GPL-3.0-or-later
"""`fireedit train FOLDER`: a run over one's own pairs, and everything that is refused before it begins."""

import json
import logging
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms

from fireedit_core.checkpoints.bundle import load_component
from fireedit_core.data.formats.reader import DatasetError
from fireedit_core.training.paper.__main__ import main
from fireedit_core.training.paper.own_pairs import RECORD, check_pairs, own_config


def picture(seed: int, size: tuple[int, int] = (72, 64)) -> Image.Image:
    """A smooth picture that no other seed makes."""
    small = np.random.default_rng(seed).integers(0, 255, (4, 4, 3), dtype=np.uint8)
    return Image.fromarray(small).resize(size, Image.Resampling.BICUBIC)


@pytest.fixture
def folder(tmp_path) -> Path:
    """Six pairs, two of them in a subfolder."""
    root = tmp_path / "pairs"
    (root / "more").mkdir(parents=True)
    for i in range(6):
        place = root / "more" if i > 3 else root
        picture(i).save(place / f"n{i}_before.png")
        picture(100 + i).save(place / f"n{i}_after.png")
        (place / f"n{i}.txt").write_text(f"remove the apple {i}\n")
    return root


def refusal(folder: Path, **options) -> str:
    with pytest.raises(DatasetError) as caught:
        check_pairs(folder, **options)
    return str(caught.value)


def resave(file: Path, change) -> None:
    with Image.open(file) as opened:
        changed = change(opened.convert("RGB"))
    changed.save(file)


def test_six_right_pairs(folder):
    found = check_pairs(folder)
    assert len(found.trained) == 5 and len(found.held) == 1 and not set(found.trained) & set(found.held)
    assert set(found.prints) == {"n0", "n1", "n2", "n3", "more/n4", "more/n5"}


def test_pictures_before_that_are_the_same_are_held_aside_together(folder):
    for i in (1, 2, 3):
        (folder / f"n{i}_before.png").write_bytes((folder / "n0_before.png").read_bytes())
    found = check_pairs(folder, held=1)
    alike = {number for number, name in enumerate(sorted(found.prints, key=lambda n: Path(n))) if name in ("n0", "n1", "n2", "n3")}
    assert not (alike & set(found.trained) and alike & set(found.held))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda f: (f / "n1_after.png").unlink(), "n1: has no picture after"),
        (lambda f: (f / "n1_before.png").unlink(), "n1: has no picture before"),
        (lambda f: (f / "n1.txt").unlink(), "n1: has no instruction; write what is to be done into n1.txt"),
        (lambda f: (f / "n1.txt").write_text(" \n"), "n1: has no instruction"),
        (lambda f: (f / "n1.txt").write_bytes(b"\xff\xfe\x00"), "n1: broken instruction"),
        (lambda f: (f / "n1_after.png").rename(f / "n1_afer.png"), "n1_afer.png: is no NAME_before"),
        (lambda f: (f / "note.txt").write_text("hello"), "note.txt: there are no pictures note_before and note_after"),
        (lambda f: picture(1).save(f / "n1_after.jpg"), "n1: several files for one picture: n1_after.jpg, n1_after.png"),
        (lambda f: picture(1, (80, 64)).save(f / "n1_after.png"), "n1: before and after have different sizes, 72 x 64 and 80 x 64"),
        (lambda f: [picture(k, (40, 64)).save(f / f"n1_{n}.png") for k, n in enumerate(("before", "after"))], "n1: 40 x 64 is too small"),
        (lambda f: (f / "n1_after.png").write_bytes((f / "n1_before.png").read_bytes()), "n1: before and after are the same picture"),
        (lambda f: (f / "n1_after.png").write_bytes((f / "n1_after.png").read_bytes()[:200]), "n1: "),
        (lambda f: (f / "n1_after.png").write_bytes(b"nothing"), "n1: n1_after.png cannot be read"),
        (lambda f: resave(f / "n1_after.png", lambda p: p.putalpha(120) or p), "n1: n1_after.png is transparent in places"),
        (lambda f: Image.fromarray(np.full((64, 72), 40000, np.uint16)).save(f / "n1_after.png"), "n1: n1_after.png has I"),
        (lambda f: picture(1).save(f / "n1_after.webp", save_all=True, append_images=[picture(2)], lossless=True)
            or (f / "n1_after.png").unlink(), "n1: n1_after.webp is a film of 2 pictures"),
        (lambda f: Image.new("L", (72, 64)).save(f / "n1_mask.png"), "n1: the mask n1_mask.png marks nothing"),
        (lambda f: Image.new("L", (9, 9), 255).save(f / "n1_mask.png"), "n1: the mask n1_mask.png is 9 x 9"),
    ],
)  # fmt: skip
def test_a_wrong_pair_is_named(folder, change, said):
    change(folder)
    assert said in refusal(folder)


def test_pictures_whose_numbers_mean_other_colours_are_no_pair(folder):
    """A photograph in Display P3 and its edit, exported as sRGB, teach that all colours change."""
    plain = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    other = plain.replace("sRGB".encode("utf-16-be"), "P3 x".encode("utf-16-be"))
    picture(1).save(folder / "n1_before.png", icc_profile=other)
    picture(2).save(folder / "n2_before.png", icc_profile=plain)  # none is sRGB too
    said = refusal(folder)
    assert "n1: the numbers of its pictures mean other colours (before P3 x" in said and "after sRGB), which would be learnt" in said
    assert "n2:" not in said
    picture(101).save(folder / "n1_after.png", icc_profile=other)
    assert len(check_pairs(folder).prints) == 6
    (folder / "n3_after.png").unlink()
    picture(3).convert("CMYK").save(folder / "n3_after.jpg")
    assert "n3: n3_after.jpg is in the four colours of print" in refusal(folder)


def test_a_pair_that_is_there_twice(folder):
    for ending in ("_before.png", "_after.png", ".txt"):
        (folder / f"n9{ending}").write_bytes((folder / f"n2{ending}").read_bytes())
    assert "n9: the same pictures and words as n2; delete one of them" in refusal(folder)


def test_all_faults_are_named_at_once(folder):
    (folder / "n1.txt").unlink()
    (folder / "n3_after.png").unlink()
    said = refusal(folder)
    assert "n1:" in said and "n3:" in said and "nothing was trained" in said


def test_too_few_pairs_and_too_many_held(folder):
    assert "--held 5 leaves 1 of 6 pairs" in refusal(folder, held=5)
    assert "--held -1" in refusal(folder, held=-1)
    for i in (0, 1, 2):
        for ending in ("_before.png", "_after.png", ".txt"):
            (folder / f"n{i}{ending}").unlink()
    assert "3 pairs are too few; 4 is the least" in refusal(folder)


def test_a_folder_without_pairs(tmp_path):
    assert "has no pairs.jsonl, pairs.csv or *_before pictures" in refusal(tmp_path)


def test_a_list_with_a_number_that_is_none(folder):
    rows = [{"source": f"n{i}_before.png", "target": f"n{i}_after.png", "instruction": f"do {i}"} for i in range(4)]
    rows[2]["instruction"] = float("nan")
    rows[3]["target"] = "more/none.png"
    (folder / "pairs.jsonl").write_text("\n".join(map(json.dumps, rows)))
    said = refusal(folder)
    assert "row 3: has no instruction" in said and "row 4: there is no none.png" in said


def test_an_opaque_alpha_channel_and_exif_are_read_as_a_viewer_shows_them(folder):
    resave(folder / "n1_after.png", lambda p: p.putalpha(255) or p)
    turned = Image.Exif()
    turned[0x0112] = 6  # turned by a quarter
    with Image.open(folder / "n2_before.png") as upright:
        sideways = upright.transpose(Image.Transpose.ROTATE_90)
        sideways.save(folder / "n2_before.webp", exif=turned, lossless=True)
    (folder / "n2_before.png").unlink()
    assert len(check_pairs(folder).prints) == 6


def test_words_that_the_bundle_does_not_know_are_told(folder, bundle, caplog):
    (folder / "n1.txt").write_text("remove the zeppelin")
    with caplog.at_level(logging.WARNING, "fireedit"):
        check_pairs(folder, tokenizer=load_component(bundle, "tokenizer"))
    assert "cannot tell from each other" in caplog.text and "zeppelin" in caplog.text
    (folder / "n1.txt").write_text("remove the apple " * 40)
    assert "n1: the instruction is longer than the 32 tokens" in refusal(
        folder, tokenizer=load_component(bundle, "tokenizer"), longest=32
    )


def test_a_folder_of_results_that_is_something_else_stays_as_it_is(folder, bundle, tmp_path, caplog):
    out = tmp_path / "mine"
    out.mkdir()
    (out / "letter.txt").write_text("keep")
    assert main([str(folder), "--bundle", str(bundle), "--out", str(out)]) == 2
    assert "is there already and holds no run over pairs" in caplog.text
    assert [file.name for file in out.iterdir()] == ["letter.txt"]
    assert main([str(folder), "--bundle", str(bundle), "--out", str(folder / "run")]) == 2
    assert "lies among the pairs" in caplog.text


@pytest.mark.parametrize(("options", "said"), [(["--lr", "nan"], "lr must be a number"), (["--sources", "x.yaml"], "--sources goes with")])
def test_settings_that_cannot_be(folder, bundle, tmp_path, capsys, caplog, options, said):
    try:
        assert main([str(folder), "--bundle", str(bundle), "--out", str(tmp_path / "run"), *options]) == 2
    except SystemExit as stopped:
        assert stopped.code == 2
    assert said in caplog.text + capsys.readouterr().err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("option", ["--validation-sources", "--validation_sources", "--sources=x", "--sourc", "--captions"])
def test_a_list_of_one_s_own_goes_with_a_configuration(folder, bundle, tmp_path, capsys, caplog, option):
    """In its other spelling, or shortened, it was taken and written over."""
    try:
        assert main([str(folder), "--bundle", str(bundle), "--out", str(tmp_path / "run"), option, "x.yaml"]) == 2
    except SystemExit as stopped:
        assert stopped.code == 2
    said = caplog.text + capsys.readouterr().err
    assert "goes with a configuration" in said or "unrecognized" in said or "not used" in said
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(("most", "shown"), [(8, [1, 4]), (3, [1, 1]), (1, [1]), (0, [])])
def test_as_many_rows_are_shown_as_are_asked_for(folder, bundle, tmp_path, most, shown):
    """`--validation` was taken and had no effect."""
    more = ["--bundle", str(bundle), "--out", str(tmp_path / "run"), "--replay", "0", "--validation", str(most)]
    config, _ = own_config(folder, more)
    assert [len(row["rows"]) for row in json.loads(Path(config.validation_sources).read_text())] == shown
    assert config.validation == sum(shown)


def test_pairs_are_mirrored_where_that_is_asked_for(folder, bundle, tmp_path):
    for flip, said in (("0", False), ("0.5", None)):
        more = ["--bundle", str(bundle), "--out", str(tmp_path / f"run{flip}"), "--replay", "0", "--flip", flip]
        assert json.loads(Path(own_config(folder, more)[0].sources).read_text())[0].get("flip") is said


def test_the_learning_rate_goes_by_the_size_of_the_unet(folder, bundle, tmp_path):
    """fireedit-tiny itself, when it was named, learnt at a twentieth of its rate."""
    start = Path(shutil.copytree(bundle, tmp_path / "start"))
    rates = []
    for channels in ([32, 32], [320, 640]):
        file = start / "unet" / "config.json"
        told = json.loads(file.read_text())
        file.write_text(json.dumps(told | {"block_out_channels": [*channels, *told["block_out_channels"][2:]]}))
        config, _ = own_config(folder, ["--bundle", str(start), "--out", str(tmp_path / f"run{len(rates)}"), "--replay", "0"])
        rates.append(config.lr)
    assert rates == [2e-3, 1e-4]


def test_a_folder_that_cannot_be_written_is_named(folder, bundle, tmp_path, caplog):
    """It ended in a traceback."""
    (tmp_path / "file").write_text("mine")
    assert main([str(folder), "--bundle", str(bundle), "--out", str(tmp_path / "file" / "run"), "--replay", "0"]) == 2
    assert str(tmp_path / "file") in caplog.text


def test_lists_that_could_not_be_written_are_the_old_ones(folder, bundle, tmp_path, monkeypatch):
    """They were written in place: what a kill left of them was read as JSON, and no message said of which file."""
    more = ["--bundle", str(bundle), "--out", str(tmp_path / "run"), "--replay", "0"]
    own_config(folder, more)
    written = lambda: {file.name: file.read_bytes() for file in (tmp_path / "run").iterdir()}  # noqa: E731
    before = written()
    monkeypatch.setattr(Path, "write_text", lambda path, text, **_: path.write_bytes(text.encode()[:5]) and fail())

    def fail():
        raise OSError("no space left")

    with pytest.raises(OSError, match="no space"):
        own_config(folder, more)
    monkeypatch.undo()
    assert written() == before and RECORD in before


def test_another_mask_is_another_run(folder, bundle, tmp_path):
    """It teaches where; a run went on over it as if nothing had changed."""
    more = ["--bundle", str(bundle), "--out", str(tmp_path / "run"), "--replay", "0"]
    own_config(folder, more)
    mask = Image.new("L", (72, 64))
    mask.putpixel((3, 3), 255)
    mask.save(folder / "n2_mask.png")
    with pytest.raises(ValueError, match=r"holds a run over other pairs \(n2 differ\)"):
        own_config(folder, more)


def test_the_words_around_an_instruction_count_too(folder, bundle):
    """A bundle that reads it in a template cut its end off without a word."""
    tokenizer = load_component(bundle, "tokenizer")
    (folder / "n1.txt").write_text("remove the apple " * 10)  # 30 words
    assert len(check_pairs(folder, tokenizer=tokenizer, longest=32).prints) == 6
    said = refusal(folder, tokenizer=tokenizer, longest=32, template="user the picture {instruction} assistant")
    assert "n1: the instruction is longer than the 32 tokens" in said


def test_a_dry_run_writes_nothing(folder, bundle, tmp_path, caplog):
    with caplog.at_level(logging.INFO, "fireedit"):
        assert main([str(folder), "--bundle", str(bundle), "--out", str(tmp_path / "run"), "--size", "64", "--dry-run"]) == 0
    assert "| unet_lora |" in caplog.text and not (tmp_path / "run").exists()


@pytest.mark.slow
def test_a_run_ends_in_a_sheet_and_a_bundle_that_edits(folder, bundle, tmp_path, caplog):
    from fireedit_core.diffusion.pipeline import FireEditPipeline

    out = tmp_path / "run"
    command = [str(folder), "--bundle", str(bundle), "--out", str(out), "--size", "64", "--steps", "2", "--validation_steps", "1"]
    assert main([*command, "--trackers", "tensorboard"]) == 0
    sheet = np.asarray(Image.open(out / "sheet-0000002.png").convert("RGB"))
    assert sheet.std() > 10
    pipe = FireEditPipeline.from_pretrained(out / "bundle")
    pipe(picture(3), "remove the apple", num_inference_steps=1)
    assert (out / "bundle" / "language_model_lora" / "adapter_model.safetensors").is_file()
    # the same command goes on; other pairs are another run
    assert main([*command, "--trackers", "tensorboard"]) == 0
    assert json.loads((out / RECORD).read_text())["held"]
    (folder / "n1.txt").write_text("remove the star")
    assert main([*command, "--trackers", "tensorboard"]) == 2
    assert "holds a run over other pairs (n1 differ)" in caplog.text


def test_a_folder_that_has_moved_holds_the_same_pairs(folder, bundle, tmp_path):
    more = ["--bundle", str(bundle), "--out", str(tmp_path / "run"), "--replay", "0"]
    own_config(folder, more)
    config, _ = own_config(folder.rename(tmp_path / "elsewhere"), more)
    assert str(tmp_path / "elsewhere") in Path(config.sources).read_text()


@pytest.mark.slow
def test_what_the_sheet_shows(folder, bundle, tmp_path):
    from fireedit_core.data.formats.registry import load_sources

    config, _ = own_config(folder, ["--bundle", str(bundle), "--out", str(tmp_path / "run"), "--held", "2"])
    shown = load_sources(config.validation_sources)
    assert [source.name for source in shown] == ["held aside", "trained on"] and [len(s.reader) for s in shown] == [2, 4]
    assert config.validation == 6 and config.size == 128
    trained = load_sources(config.sources)[0].reader
    held = {shown[0].reader[i].instruction for i in range(2)}
    assert len(trained) == 4 and not held & {trained[i].instruction for i in range(4)}


def test_help_names_what_a_folder_of_pairs_has(tmp_path, capsys):
    with pytest.raises(SystemExit) as end:
        own_config(tmp_path, ["--help"])
    said = capsys.readouterr().out
    assert end.value.code == 0 and all(option in said for option in ("--held", "--replay", "--bundle", "--steps"))
