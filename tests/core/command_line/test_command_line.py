# SPDX-License-Identifier: GPL-3.0-or-later
"""What the command line sends for each row; the server is one that remembers what it was sent."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest
import requests
from PIL import Image

from fireedit_cli import __main__ as command
from fireedit_cli.batch import Fleet, NoServer, Places
from fireedit_cli.comfy_client import ComfyClient, HostError, PromptRejected, RequestRefused, RunResult
from fireedit_cli.jobs import JobError, jobs_of
from fireedit_cli.journal import Journal
from fireedit_cli.ways import Ways
from fireedit_cli.workflow import SHIPPED, Workflow, WorkflowError, use_detector
from host_setup.host_lookup import HostNotFound

from .conftest import COLOURS, Recorder, edit, journal


def test_each_row_is_sent_with_its_own(pictures, tmp_path, recorder):
    table = pictures / "rows.csv"
    table.write_text("image,instruction,output,seed\none.png,remove it,a.png,3\ntwo.png,,b.png,\nthree.png,make it red,c.png,250\n")
    assert edit(table, "for all", "-o", tmp_path / "out", "--seed", 9) == 0
    flows = [Workflow(graph) for graph in recorder.sent]
    sent = [(f.get("FireEditVLMConditioning", "instruction"), f.get("FireEditSample", "seed")) for f in flows]
    assert sent == [("remove it", 3), ("for all", 9), ("make it red", 250)]
    uploaded = [recorder.uploads[f.get("LoadImage", "image")] for f in flows]
    assert uploaded == [(pictures / f"{name}.png").read_bytes() for name in COLOURS] and len(recorder.uploads) == 3
    for name, seed in (("a", 3), ("b", 9), ("c", 250)):
        assert np.asarray(Image.open(tmp_path / "out" / f"{name}.png"))[0, 0].tolist() == [77, seed, seed]
    lines = {line["output"]: line for line in journal(tmp_path / "out")}
    assert [(lines[f"{n}.png"]["instruction"], lines[f"{n}.png"]["seed"]) for n in "abc"] == sent
    assert lines["b.png"]["said"] == ["understood:", "for all"] and lines["b.png"]["source"].endswith("two.png")


def test_options_of_all_rows_reach_their_inputs(pictures, tmp_path, recorder):
    options = {
        "steps": 7, "sampler": "heun", "scheduler": "karras", "text-guidance": 2.25, "image-guidance": 1.75, "keep-outside": "soft",
        "bundle": "mine",
    }  # fmt: skip
    flat = [str(x) for name, value in options.items() for x in (f"--{name}", value)]
    assert edit(pictures / "one.png", "remove it", "-o", tmp_path / "o.png", "--seed", 4, *flat) == 0
    flow = Workflow(recorder.sent[0])
    inputs = flow.nodes[flow.only("FireEditSample")]["inputs"]
    wanted = {
        "steps": 7, "sampler_name": "heun", "scheduler": "karras", "text_guidance": 2.25, "image_guidance": 1.75, "keep_outside": "soft",
        "seed": 4,
    }  # fmt: skip
    assert {name: inputs[name] for name in wanted} == wanted and flow.get("FireEditLoader", "bundle") == "mine"


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [
        ("--text-guidance", "nan", "a number of 0 to 30, got 'nan'"), ("--image-guidance", "inf", "a number of 0 to 30"),
        ("--text-guidance", "-1", "a number of 0 to 30"), ("--timeout", "nan", "a number of 0 or more"),
        ("--timeout", "soon", "got 'soon'"), ("--patience", "-3", "a number of 0 or more"),
    ],
)  # fmt: skip
def test_a_number_that_is_none_is_refused_at_once(pictures, option, value, said, capsys, recorder):
    """It could not be sent as JSON, which looked like a server that does not answer."""
    with pytest.raises(SystemExit) as stopped:
        edit(pictures / "one.png", "remove it", option, value)
    assert stopped.value.code == 2 and said in capsys.readouterr().err and not recorder.sent


def test_numbers_at_the_ends_are_taken(pictures, tmp_path, recorder):
    extremes = ("--text-guidance", 0, "--image-guidance", 30, "--timeout", "inf", "--patience", 0)
    assert edit(pictures / "one.png", "remove it", "-o", tmp_path / "o.png", *extremes) == 0
    sample = Workflow(recorder.sent[0])
    assert [sample.get("FireEditSample", name) for name in ("text_guidance", "image_guidance")] == [0, 30]


def test_two_pictures_that_would_be_one_result_are_named_with_the_mend(pictures, tmp_path):
    Image.new("RGB", (8, 6)).save(pictures / "one.jpg")
    with pytest.raises(JobError, match=r"one\.png is the output of more than one job; name one of the pictures otherwise"):
        jobs_of(pictures, "remove it", tmp_path / "out")
    (pictures / "list.csv").write_text("image\none.png\none.jpg\ntwo.png\ntwo.png\n")
    with pytest.raises(JobError, match=r"one\.png is .*, as are 1 others; give the list a column output"):
        jobs_of(pictures / "list.csv", "remove it", tmp_path / "out")


def test_a_job_leaves_the_workflow_as_it_was(pictures, tmp_path):
    flow = Workflow.load()
    before = copy.deepcopy(flow.nodes)
    Fleet(["http://one"], Ways(flow), Journal(""), Recorder).run(jobs_of(pictures, "remove it", tmp_path / "out", 3))
    assert flow.nodes == before


def test_a_picture_that_brings_the_mask_is_not_replaced(pictures, tmp_path, recorder):
    flow = Workflow.load()
    mask = flow.add("LoadImage", image="mask.png")
    flow.nodes[flow.only("FireEditVLMConditioning")]["inputs"]["mask"] = [mask, 1]
    assert Places.of(flow).picture != mask
    Fleet(["http://one"], Ways(flow), Journal(""), Recorder).run(jobs_of(pictures / "one.png", "remove it", tmp_path / "o.png"))
    assert recorder.sent[0][mask]["inputs"]["image"] == "mask.png"


def test_a_detector_that_reads_a_prompt_is_asked_for_what_each_job_names(pictures, tmp_path, recorder):
    (pictures / "rows.csv").write_text("image,instruction\none.png,remove the lantern\ntwo.png,make the kite red\n")
    assert edit(pictures / "rows.csv", "-o", tmp_path / "out", "--detector", "detectors/dino") == 0
    sent = [Workflow(graph) for graph in recorder.sent]
    assert [flow.get("FireEditDetectorLoader", "detector") for flow in sent] == ["detectors/dino"] * 2
    told = [[flow.get(kind, "instruction") for kind in ("FireEditRegionDetect", "FireEditGround")] for flow in sent]
    assert told == [["remove the lantern"] * 2, ["make the kite red"] * 2]
    assert [flow.get("FireEditRegionDetect", "score_threshold") for flow in sent] == [-1.0] * 2
    # without one the regions of a picture serve every instruction, so they are not asked for
    assert edit(pictures / "one.png", "remove it", "-o", tmp_path / "b.png", "--way", "photo") == 0
    plain = Workflow(recorder.sent[-1])
    assert "instruction" not in plain.nodes[plain.only("FireEditRegionDetect")]["inputs"]
    assert edit(pictures / "one.png", "remove it", "-o", tmp_path / "c.png", "--detector", "x", "--way", "bundle") == 2
    assert edit(pictures / "one.png", "remove it", "-o", tmp_path / "c.png", "--detector", "x", "--steps", 4) == 2
    assert len(recorder.sent) == 3


def test_a_folder_as_detector_is_linked_into_a_server_of_our_own(tmp_path):
    class Own:
        models_dir = tmp_path / "models"

    folder = tmp_path / "my dino"
    folder.mkdir()
    with pytest.raises(WorkflowError, match="no detector of transformers: it has no config.json"):
        use_detector(Own, str(folder))
    (folder / "config.json").write_text("{}")
    assert use_detector(Own, str(folder)) == "detectors/my dino" == use_detector(Own, str(folder))
    assert (Own.models_dir / "detectors" / "my dino" / "config.json").is_file()
    assert use_detector(Own, "photo-detector (built in)") == "photo-detector (built in)"


def test_only_pictures_lead_back_to_the_picture(pictures):
    flow = Workflow.load()
    mask = flow.add("LoadImage", image="mask.png")
    flow.nodes[flow.only("FireEditRegionDetect")]["inputs"]["image"] = [mask, 1]
    assert flow.sources("LoadImage", "image") == [Places.of(flow).picture] != [mask]


def test_pictures_of_one_name_are_two_pictures(pictures, tmp_path, recorder):
    """Also on a server that still has the one of yesterday."""
    (pictures / "more").mkdir()
    Image.new("RGB", (8, 6), "black").save(pictures / "more" / "one.png")
    (pictures / "rows.csv").write_text("image,instruction,output\none.png,x,a.png\nmore/one.png,x,b.png\n")
    assert edit(pictures / "rows.csv", "-o", tmp_path / "out") == 0
    names = [Workflow(graph).get("LoadImage", "image") for graph in recorder.sent]
    assert [recorder.uploads[name] for name in names] == [(pictures / p).read_bytes() for p in ("one.png", "more/one.png")]


def test_a_job_is_not_given_to_a_server_that_refused_it(pictures, tmp_path):
    asked = []

    class Refusing(Recorder):
        def run(self, workflow, timeout=600.0):
            asked.append(self.url)
            raise PromptRejected({"error": {"message": "no"}})

    jobs = jobs_of(pictures, "remove it", tmp_path / "out")
    failed = Fleet(["http://one", "http://two"], Ways(Workflow.load()), Journal(""), Refusing).run(jobs)
    assert len(failed) == 3 and sorted(asked) == ["http://one"] * 3 + ["http://two"] * 3


def test_one_that_fails_is_seen_in_the_exit_code(pictures, tmp_path, recorder, monkeypatch, caplog):
    def refused(self, workflow, timeout=600.0):
        raise PromptRejected({"error": {"message": "no"}})

    arguments = (pictures, "remove it", "-o", tmp_path / "out", "--way", "bundle")
    with monkeypatch.context() as patch:
        patch.setattr(recorder, "run", refused)
        assert edit(*arguments) == 1 and "3 of 3 edits failed" in caplog.text
    assert edit(*arguments) == 0


@pytest.mark.parametrize(
    "ended, code",
    [
        (HostError("gone"), 3), (requests.ConnectionError("gone"), 3), (NoServer("gone"), 3), (HostNotFound("gone"), 3),
        (JobError("gone"), 2), (WorkflowError("gone"), 2), (KeyboardInterrupt(), 130),
    ],
)  # fmt: skip
def test_what_ends_a_run_is_seen_in_the_exit_code(pictures, tmp_path, monkeypatch, caplog, ended, code):
    def end(*_, **__):
        raise ended

    monkeypatch.setattr(Fleet, "run", end)
    assert edit(pictures / "one.png", "remove it", "-o", tmp_path / "o.png") == code
    assert ("cancelled" if code == 130 else "gone") in caplog.text


def test_how_long_is_waited_reaches_the_fleet(pictures, tmp_path, monkeypatch):
    made = []
    monkeypatch.setattr(Fleet, "run", lambda self, *_: made.append((self.patience, self.timeout)) or [])
    assert edit(pictures / "one.png", "remove it", "-o", tmp_path / "o.png", "--patience", 4, "--timeout", 70) == 0
    assert made == [(4, 70)]


def test_a_folder_whose_name_begins_alike_is_another(pictures, tmp_path):
    (pictures / "list.csv").write_text("image,output\none.png,../out-of-others/one.png\n")
    with pytest.raises(JobError, match="one.png lies outside of .*out;"):
        jobs_of(pictures / "list.csv", "remove it", tmp_path / "out")


@pytest.mark.parametrize("status", (400, 404, 413, 408, 425, 429, 500))
def test_a_server_that_is_busy_is_no_refusal(status):
    answer = requests.Response()
    answer.status_code, answer._content, answer.request = status, b"so", requests.Request("GET", "http://one/x").prepare()
    with pytest.raises(HostError, match=f"GET .*status {status}: so") as said:
        ComfyClient("http://one")._checked(answer)
    assert isinstance(said.value, RequestRefused) is (status in (400, 404, 413))


def test_how_results_are_saved(pictures, tmp_path):
    """PNG as it is; JPEG at 95 without halved colours, a third of the error of 75; WEBP at 95, which always halves colours."""
    colours = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    grey = colours[..., :1].repeat(3, axis=-1)

    def saved(end: str, made: np.ndarray) -> np.ndarray:
        class Back(Recorder):
            def run(self, workflow, timeout=600.0):
                result = super().run(workflow, timeout)
                return RunResult("id", {}, {key: [made] for key in result.images}, [], 1.0)

        jobs = jobs_of(pictures / "one.png", "x", tmp_path / f"o.{end}")
        Fleet(["http://one"], Ways(Workflow.load()), Journal(""), Back).run(jobs)
        return np.abs(np.asarray(Image.open(tmp_path / f"o.{end}").convert("RGB")).astype(int) - made)

    assert saved("png", colours).max() == 0 and saved("jpg", colours).mean() < 4 and saved("webp", grey).mean() < 8


def test_the_way_is_the_bundles_own_unless_it_says_that_the_picture_is_foreign(pictures, tmp_path, recorder, monkeypatch):
    source = pictures / "one.png"
    assert edit(source, "remove it", "-o", tmp_path / "a.png") == 0
    (probe,) = recorder.probed
    probed = Workflow(probe)
    assert not probed.ids("FireEditApply") and not probed.ids("SaveImage")  # nothing that samples or saves
    asked = probed.get("FireEditVLMConditioning", "instruction"), recorder.uploads[probed.get("LoadImage", "image")]
    assert asked == ("remove it", source.read_bytes())
    assert Workflow(recorder.sent[-1]).ids("FireEditSample")
    monkeypatch.setattr(Recorder, "foreign", True)
    assert edit(source, "remove it", "-o", tmp_path / "b.png") == 0
    flow = Workflow(recorder.sent[-1])
    assert flow.ids("FireEditQuickEdit") and not flow.ids("FireEditLoader")
    assert flow.get("FireEditGround", "instruction") == "remove it" and flow.get("LoadImage", "image") in recorder.uploads
    said = journal(tmp_path)[-1]["said"]
    assert "photo way" in said[0] and "found it" in said
    assert edit(source, "remove it", "-o", tmp_path / "b.png") == 0 and len(recorder.sent) == 2  # done already


def test_a_way_that_is_named_is_taken_without_asking(pictures, tmp_path, recorder, caplog):
    source = pictures / "one.png"
    assert edit(source, "remove it", "-o", tmp_path / "a.png", "--way", "photo") == 0
    assert Workflow(recorder.sent[-1]).ids("FireEditQuickEdit")
    assert edit(source, "remove it", "-o", tmp_path / "b.png", "--way", "bundle") == 0
    assert Workflow(recorder.sent[-1]).ids("FireEditSample")
    assert edit(source, "remove it", "-o", tmp_path / "c.png", "--steps", 4) == 0  # settings of the sampler are the bundle's
    assert Workflow(recorder.sent[-1]).ids("FireEditSample") and not recorder.probed
    for way in ("photo", "auto"):
        assert edit(source, "remove it", "-o", tmp_path / "d.png", "--steps", 4, "--way", way) == 2
        assert "--steps" in caplog.text and "photo way" in caplog.text


def test_what_became_transparent_is_kept_where_the_file_can(pictures, tmp_path, recorder):
    for name, mode in (("a.png", "RGBA"), ("b.webp", "RGBA"), ("c.jpg", "RGB")):
        assert edit(pictures / "one.png", "cut it out", "-o", tmp_path / name, "--way", "photo") == 0
        assert Image.open(tmp_path / name).mode == mode, name
    assert any("transparent is lost" in line for line in journal(tmp_path)[-1]["said"])


def test_the_edit_model_gets_the_words_of_the_job():
    for name in ("ip2p", "kontext", "qwen", "klein"):
        flow = Workflow.load(SHIPPED / f"fireedit_photo_{name}.json")
        places = Places.of(flow)
        places.fill(flow, "a.png", "remove the cat", 7)
        assert flow.nodes[places.reader[0]] == {"class_type": "PrimitiveStringMultiline", "inputs": {"value": "remove the cat"}}
        users = {n["class_type"] for n in flow.nodes.values() if [places.reader[0], 0] in n["inputs"].values()}
        assert users == {"FireEditGround", "TextEncodeQwenImageEditPlus" if name == "qwen" else "CLIPTextEncode"}
        assert flow.nodes[places.result]["inputs"]["images"][0] == flow.only("FireEditPhotoFinish")
        assert [flow.nodes[key]["inputs"][field] for key, field in places.seeds] == [7]
        flow.add("SaveImage", images=[flow.only("FireEditPhotoCrop"), 0], filename_prefix="crop")  # one more, which is not the edit
        assert Places.of(flow).result == places.result
        apart = flow.copy()  # one String for Ground alone: the text encoder keeps its own words
        for encoder in ("CLIPTextEncode", "TextEncodeQwenImageEditPlus"):
            for key in apart.ids(encoder):
                apart.nodes[key]["inputs"].update(text="a marble statue", prompt="a marble statue")
        with pytest.raises(WorkflowError, match="would not be told"):
            Places.of(apart)
        flow.set("FireEditGround", "instruction", "remove the cat")  # or by hand
        with pytest.raises(WorkflowError, match="would not be told the instruction.*Link one String node"):
            Places.of(flow)
        flow.set("FireEditGround", "instruction", ["1", 0])
        with pytest.raises(WorkflowError, match="instruction of FireEditGround comes from LoadImage; link a String node"):
            Places.of(flow)


def test_a_changed_model_file_is_another_edit(tmp_path: Path, monkeypatch):
    file = tmp_path / "models" / "vae" / "ae.safetensors"
    file.parent.mkdir(parents=True)
    file.write_bytes(b"one")
    monkeypatch.setattr(command, "require_host", lambda: type("Host", (), {"path": tmp_path})())
    options = command.parser().parse_args(["edit", "a.png", "x", "--way", "model", "--workflow", "fireedit_photo_kontext"])
    flow = command.ways_of(options).main
    before = command.weights_stamp(options, flow)
    file.write_bytes(b"another")
    assert [one[0] for one in before] == ["ae.safetensors"] and command.weights_stamp(options, flow) != before


@pytest.mark.parametrize(("way", "with_models"), [("model", True), ("bundle", False)])
def test_only_the_way_of_a_model_needs_the_hosts_own_models(pictures, tmp_path, monkeypatch, way, with_models):
    asked = []

    def own_server(wanted):
        asked.append(wanted)
        raise HostNotFound("none here")

    monkeypatch.setattr(command, "own_server", own_server)
    monkeypatch.setattr(command, "require_host", lambda: type("Host", (), {"path": tmp_path})())
    more = ["--workflow", "fireedit_photo_kontext"] if way == "model" else []
    assert command.main(["edit", str(pictures), "remove the cat", "-o", str(tmp_path / "out"), "--way", way, *more]) == command.NO_SERVER
    assert asked == [with_models]
