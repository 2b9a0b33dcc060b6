# SPDX-License-Identifier: GPL-3.0-or-later
"""Edit pictures from the command line, in a ComfyUI of its own or on running servers; convert public checkpoints; fetch weights; train.

    ./fireedit edit in.png "remove the cat" -o out.png
    ./fireedit edit pictures/ "remove the cat" -o edited/
    ./fireedit edit jobs.csv -o edited/ --server http://one:8188 --server http://two:8188
    ./fireedit edit photo.jpg "give the man a red coat" --way model --workflow fireedit_photo_kontext  (docs/photos.md)
    ./fireedit convert --out models/fireedit-sd15 --instructpix2pix FILE --language-model FOLDER ...  (docs/convert.md)
    ./fireedit fetch isnet  (cuts things out of photographs; shows what is unclear about its licence, and asks)
    ./fireedit train tiny_all [--steps 100 ...] [--dry-run]  (docs/training.md)

A CSV has the columns image and instruction and, if wanted, output and seed. What was done already is not done again; a run that was
stopped goes on. Exit codes: 0 all done, 1 some edits failed, 2 wrong usage, 3 no server, 130 cancelled.
"""

from __future__ import annotations

import argparse
import json
import logging
import math
import signal
import sys
import threading
from contextlib import nullcontext
from pathlib import Path

from tqdm import tqdm

from fireedit_cli.batch import BROKEN, Fleet, NoServer, Places
from fireedit_cli.comfy_client import ComfyClient, HostError
from fireedit_cli.comfy_host import ComfyServer, HostNotFound
from fireedit_cli.jobs import Job, JobError, jobs_of
from fireedit_cli.journal import Journal, check_places
from fireedit_cli.model_files import LOADERS, missing, named_in
from fireedit_cli.ways import MODEL_WORKFLOWS, PHOTO_WORKFLOW, WAYS, Ways
from fireedit_cli.workflow import EDIT_WORKFLOW, Workflow, WorkflowError, named_workflow, use_bundle, use_detector
from host_setup.host_lookup import REPO, require_host

log = logging.getLogger("fireedit")

OWN_THRESHOLD = -1.0  # FireEdit Region Detect: the detector's own
DONE, FAILED, USAGE, NO_SERVER, CANCELLED = 0, 1, 2, 3, 130
# Option -> node and input that it sets.
SETTINGS = {
    "steps": ("FireEditSample", "steps"), "sampler": ("FireEditSample", "sampler_name"), "scheduler": ("FireEditSample", "scheduler"),
    "text_guidance": ("FireEditSample", "text_guidance"), "image_guidance": ("FireEditSample", "image_guidance"),
    "keep_outside": ("FireEditSample", "keep_outside"),
}  # fmt: skip


def whole(low: int, high: int):  # noqa: ANN201
    """An argparse type: a whole number from `low` to `high`. The server would refuse another one, after all models are loaded."""

    def parse(text: str) -> int:
        if not text.removeprefix("-").isdecimal() or not low <= int(text) <= high:
            raise argparse.ArgumentTypeError(f"a whole number of {low} to {high}, got {text!r}")
        return int(text)

    return parse


def number(low: float, high: float = math.inf):  # noqa: ANN201
    """An argparse type: a number from `low` to `high`. NaN cannot be sent, and would look like a server that is gone."""

    def parse(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not low <= value <= high:  # which no NaN is
            raise argparse.ArgumentTypeError(f"a number of {low:g}{f' to {high:g}' if high < math.inf else ' or more'}, got {text!r}")
        return value

    return parse


def address(text: str) -> str:
    """An argparse type: the address of a server, with its protocol."""
    if not text.startswith(("http://", "https://")) or not text.partition("//")[2]:
        raise argparse.ArgumentTypeError(f"an address begins with http:// or https://, got {text!r}")
    return text


def parser() -> argparse.ArgumentParser:
    """The command line."""
    main = argparse.ArgumentParser(prog="fireedit", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = main.add_subparsers(dest="command", required=True)
    edit = commands.add_parser("edit", help="edit a picture, a folder of pictures or the rows of a CSV")
    edit.add_argument("source", type=Path, help="picture, folder or .csv")
    edit.add_argument("instruction", nargs="?", help="what to do; in a CSV for rows without one")
    edit.add_argument("-o", "--output", type=Path, help="file for a picture, folder otherwise; default: beside the source")
    edit.add_argument(
        "--server", action="append", default=[], metavar="URL", type=address, help="a running ComfyUI; several times for several"
    )
    edit.add_argument("--seed", type=whole(0, 2**64 - 1), default=0)
    edit.add_argument("--bundle", help="name of a bundle, or its folder when no --server is given")
    edit.add_argument("--workflow", type=named_workflow, help="another workflow in API format, or the name of one of workflows/api")
    edit.add_argument(
        "--way", choices=WAYS, help="photo: find the thing by words, edit without a generative model; bundle: the bundle's models; "
        "model: an edit model that you have, with --workflow; auto, the default: the photo way for pictures that are not of the bundle's "
        "kind",
    )
    edit.add_argument(
        "--detector", help="what finds things the photo way, as FireEdit Detector Loader names it, or a folder of transformers when no "
        "--server is given; one that reads a prompt (Grounding DINO, OWLv2) is asked for what the instruction names",
    )  # fmt: skip
    edit.add_argument("--steps", type=whole(1, 1000))
    edit.add_argument("--sampler")
    edit.add_argument("--scheduler")
    edit.add_argument("--text-guidance", type=number(0, 30))
    edit.add_argument("--image-guidance", type=number(0, 30))
    edit.add_argument("--keep-outside", choices=("off", "soft", "exact"))
    edit.add_argument("--again", action="store_true", help="do everything, also what was done already")
    edit.add_argument("--overwrite", action="store_true", help="replace files at the results' places that this command has not made")
    edit.add_argument("--patience", type=number(0), default=30.0, help="seconds to wait for a server that went quiet (default %(default)g)")
    edit.add_argument("--timeout", type=number(0), default=600.0, help="seconds for one edit (default %(default)g)")
    edit.add_argument("--quiet", action="store_true", help="no progress bar")
    commands.add_parser("convert", help="assemble a full-size bundle from public checkpoints; convert --help says more", add_help=False)
    commands.add_parser("fetch", help="get weights that FireEdit may not ship; fetch --help says more", add_help=False)
    commands.add_parser("train", help="train on datasets; train --help says more", add_help=False)
    return main


def main(arguments: list[str] | None = None) -> int:
    """Run; returns the exit code."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if arguments[:1] == ["convert"]:  # torch and the model libraries are imported for this alone
        from fireedit_core.checkpoints.__main__ import main as convert

        return convert(arguments)
    if arguments[:1] == ["fetch"]:
        from fireedit_cli.fetch import main as fetch

        return fetch(arguments[1:])
    if arguments[:1] == ["train"]:
        from fireedit_core.training.paper.__main__ import main as train

        return train(arguments[1:])
    options = parser().parse_args(arguments)
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    if threading.current_thread() is threading.main_thread():
        # a service that is stopped must not leave its ComfyUI or a remote prompt behind
        signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        jobs = jobs_of(options.source, options.instruction, options.output, options.seed)
        return _run(options, jobs, ways_of(options))
    except (JobError, WorkflowError) as error:
        log.error("fireedit: %s", error)
        return USAGE
    except (NoServer, HostNotFound) as error:
        log.error("fireedit: %s", error)
        return NO_SERVER
    except (HostError, *BROKEN) as error:
        log.error("fireedit: %s", error)
        return NO_SERVER
    except KeyboardInterrupt:
        log.error("fireedit: cancelled; the same command goes on where this one stopped")
        return CANCELLED


def ways_of(options: argparse.Namespace) -> Ways:
    """The workflow or workflows that the options ask for, with their settings.

    What is said of the bundle or its sampler, or another workflow, settles that it is not the photo way.

    Raises:
        WorkflowError: for settings that contradict each other or that the workflow has no place for, and graphs that cannot be batched.
    """
    if options.way == "model":
        return Ways(model_flow(options))
    told = [f"--{name.replace('_', '-')}" for name in (*SETTINGS, "bundle", "workflow") if getattr(options, name) is not None]
    if options.way in ("photo", "auto") and told:
        raise WorkflowError(
            f"{', '.join(told)} says how the bundle edits, which the photo way does not use; leave it out, or --way {options.way}"
        )
    if options.detector and (options.way == "bundle" or told):
        raise WorkflowError(f"--detector is for the photo way, {', '.join(told) or '--way bundle'} for the other one; leave one out")
    if options.way == "photo" or (options.detector and options.way is None):
        return Ways(photo_flow(options.detector))
    flow = _checked(Workflow.load(options.workflow or EDIT_WORKFLOW))
    for name, (node, field) in SETTINGS.items():
        if getattr(options, name) is not None:
            flow.set(node, field, getattr(options, name))
    alone = options.way == "bundle" or bool(told)
    return Ways(flow) if alone else Ways(flow, photo_flow(options.detector))


def model_flow(options: argparse.Namespace) -> Workflow:
    """The workflow of an edit model that the user has, which holds that model's own settings."""
    if options.workflow is None:
        raise WorkflowError(f"--way model needs --workflow: {', '.join(MODEL_WORKFLOWS)}, or a file of yours in API format")
    told = [f"--{name.replace('_', '-')}" for name in (*SETTINGS, "bundle") if getattr(options, name) is not None]
    if told:
        raise WorkflowError(f"{', '.join(told)} says how the bundle edits, which --way model does not use; set it in the workflow")
    return _checked(_with_detector(Workflow.load(options.workflow), options.detector))


def photo_flow(detector: str | None = None) -> Workflow:
    """The photo workflow, with another detector where one is named: with its own threshold, and asked for what the instruction names."""
    return _checked(_with_detector(Workflow.load(PHOTO_WORKFLOW), detector))


def _with_detector(flow: Workflow, detector: str | None) -> Workflow:
    if detector:
        flow.set("FireEditDetectorLoader", "detector", detector)
        flow.set("FireEditRegionDetect", "score_threshold", OWN_THRESHOLD)
        flow.nodes[flow.only("FireEditRegionDetect")]["inputs"]["instruction"] = ""  # of each job
    return flow


def _checked(flow: Workflow) -> Workflow:
    Places.of(flow)
    return flow


def weights_stamp(options: argparse.Namespace, flow: Workflow) -> list:
    """Sizes and times of the weights that a ComfyUI of our own will load, so that changed weights under the same name are other edits.

    Empty where servers elsewhere have them: what lies there cannot be seen.
    """
    from fireedit_core.folders import files_below  # here: nothing of the core is loaded before there is something to do

    if options.server:
        return []
    if options.way == "model":
        below = require_host().path / "models"
        named = [(LOADERS[node["class_type"]], value) for node in flow.nodes.values() for value in named_in(node).values()]
        found = [(name, below / folder / name) for folder, name in named if (below / folder / name).is_file()]
        return [[name, file.stat().st_size, file.stat().st_mtime_ns] for name, file in found]
    found: list = []
    bundle = options.bundle or next((flow.nodes[i]["inputs"].get("bundle") for i in flow.ids("FireEditLoader")), "")
    for name, mark in ((bundle if flow.ids("FireEditLoader") else "", "model_index.json"), (options.detector or "", "config.json")):
        places = (Path(str(name)), REPO / "models" / str(name)) if name else ()
        folder = next((place for place in places if (place / mark).is_file()), None)
        files = [file for file in files_below(folder) if file.suffix == ".safetensors"] if folder else []
        found += [[p.relative_to(folder).as_posix(), p.stat().st_size, p.stat().st_mtime_ns] for p in files]
    return found


def able(urls: list[str], flow: Workflow, own: ComfyServer | None = None) -> list[str]:
    """The servers that have every node and model file of a workflow; those that lack one are told of.

    One that does not answer stays: what becomes of it is decided as for any other job.

    Raises:
        WorkflowError: if all lack something, with each file's folder and size.
    """
    found, said = [], {}
    for url in urls:
        client = ComfyClient(url)
        try:
            lacks = missing(client, flow)
        except (HostError, *BROKEN):
            lacks = []
        finally:
            client.close()
        if lacks:
            said[url] = lacks
        else:
            found.append(url)
    where = {url: url if own is None else own.host.path for url in said}
    lines = ["\n  ".join([f"{where[url]} lacks for {flow.origin}:", *lacks]) for url, lacks in said.items()]
    if not found:
        raise WorkflowError("\n".join([*lines, "Put the files there, or choose in the workflow what you have; nothing was edited"]))
    for line in lines:
        log.warning("%s\nit is left out", line)
    return found


def own_server(with_models: bool) -> ComfyServer:
    """A ComfyUI of our own, not started yet; with the model files of the ComfyUI that it is, or with none but the pack's."""
    server = ComfyServer()
    if with_models:
        older = {"text_encoders": "text_encoders\nclip", "diffusion_models": "diffusion_models\nunet"}  # the names that these had
        folders = {name: name for name in LOADERS.values()} | older
        places = {"of_the_host": {"base_path": str(server.host.path / "models")} | folders}
        config = server.base / "models_of_the_host.yaml"
        config.parent.mkdir(parents=True, exist_ok=True)
        config.write_text(json.dumps(places), encoding="utf-8")  # JSON is YAML
        server.arguments += ["--extra-model-paths-config", str(config)]
    return server


def _run(options: argparse.Namespace, jobs: list[Job], ways: Ways) -> int:
    flow = ways.main
    if options.bundle and options.server:
        flow.set("FireEditLoader", "bundle", options.bundle)
    graphs = [flow.nodes, *([ways.photo.nodes] if ways.photo else [])]
    journal = Journal(json.dumps([*graphs, options.bundle, weights_stamp(options, flow)], sort_keys=True))
    todo = [job for job in jobs if options.again or not journal.done(job)]
    if len(todo) < len(jobs) and not options.quiet:
        log.warning("%d of %d are done already", len(jobs) - len(todo), len(jobs))
    if not todo:
        return DONE
    check_places(todo, journal, options.overwrite)
    host = nullcontext() if options.server else own_server(options.way == "model")
    with host as own, tqdm(total=len(todo), unit="edit", disable=options.quiet) as bar:
        urls = able(options.server or [own.url], flow, own) if options.way == "model" else options.server or [own.url]
        if own is not None and options.bundle:
            flow.set("FireEditLoader", "bundle", use_bundle(own, options.bundle))
        if own is not None and options.detector:
            name = use_detector(own, options.detector)
            for one in (ways.main, ways.photo):
                if one is not None and one.ids("FireEditDetectorLoader"):
                    one.set("FireEditDetectorLoader", "detector", name)

        def progress(job: Job, error: str | None) -> None:
            bar.update()
            if error is not None:
                bar.write(f"{job.source.name}: {error}", file=sys.stderr)
            elif not options.quiet:
                for line in job.said:
                    bar.write(f"{job.source.name}: {line}", file=sys.stderr)

        fleet = Fleet(urls, ways, journal, patience=options.patience, timeout=options.timeout)
        failed = fleet.run(todo, progress)
    if failed:
        log.error("fireedit: %d of %d edits failed", len(failed), len(todo))
    return FAILED if failed else DONE


if __name__ == "__main__":
    sys.exit(main())
