# SPDX-License-Identifier: GPL-3.0-or-later
"""The networks from a local folder, held against torchvision, the lpips package and plain formulas."""

from __future__ import annotations

import json
import pickle
import shutil
import warnings

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from fireedit_core.evaluation import similarity
from fireedit_core.evaluation.__main__ import main
from fireedit_core.evaluation.similarity import MetricWeights, cosine, prepared, structure_distance

from .conftest import noisy


@pytest.fixture
def pair():
    first = noisy(np.full((90, 140, 3), 120, np.uint8), 1)
    return first, noisy(first, 2)


@pytest.mark.parametrize("size", [(140, 90), (90, 140), (224, 224), (225, 300), (1023, 777), (257, 256)])
@pytest.mark.parametrize("sides", [(224, 224), (256, 224)])
def test_pictures_are_prepared_as_torchvision_does_it(size, sides):
    transforms = pytest.importorskip("torchvision").transforms
    image = noisy(np.full((size[1], size[0], 3), 120, np.uint8), 3)
    short, crop = sides
    view = transforms.Compose([
        transforms.Resize(short, transforms.InterpolationMode.BICUBIC), transforms.CenterCrop(crop), transforms.ToTensor(),
        transforms.Normalize(similarity.CLIP_MEAN, similarity.CLIP_STD),
    ])  # fmt: skip
    assert torch.equal(prepared(image, short, crop, similarity.CLIP_MEAN, similarity.CLIP_STD), view(image))


def test_clip_reads_text_and_pictures(weights, pair):
    clip = weights.clip("clip-vit-base-patch32")
    one, other = (clip.picture(image) for image in pair)
    assert one.shape == (24,) and cosine(one, one) == pytest.approx(1) and cosine(one, other) < 0.999
    assert not torch.equal(clip.text("a red dog"), clip.text("a blue dog"))
    long = "a dog " * 200
    assert torch.equal(clip.text(long), clip.text(long + "and a cat")) and not torch.equal(clip.text(long), clip.text("a dog"))
    assert weights.clip("clip-vit-base-patch32") is clip
    assert cosine(torch.zeros(3), torch.ones(3)) == 0


@pytest.mark.parametrize("antialias", [True, False])
def test_structure_distance_is_that_of_the_keys(weights, pair, antialias):
    """Against the keys computed by hand from the layer before: q, k, v are linear in the normalised hidden state."""
    dino = weights.dino("dino-vitb8")
    pair = [image.resize((700, 450), Image.Resampling.NEAREST) for image in pair]  # larger than what is looked at
    model, wanted = dino.model, []
    key = next(m for n, m in reversed(list(model.named_modules())) if n.endswith(("k_proj", "attention.key")))
    norm = [m for n, m in model.named_modules() if n.endswith("layernorm_before")][-1]
    for image in pair:
        pixels = torch.from_numpy(np.asarray(image, np.float32)).permute(2, 0, 1)  # on 0..255: the official oversight
        size = (224, int(224 * 140 / 90))
        transforms = pytest.importorskip("torchvision.transforms.v2.functional")
        pixels = transforms.resize(pixels, size, antialias=antialias)
        pixels = transforms.normalize(pixels, similarity.IMAGENET_MEAN, similarity.IMAGENET_STD)
        with torch.no_grad():
            hidden = model(pixels[None], output_hidden_states=True, interpolate_pos_encoding=True).hidden_states[-2]
            keys = key(norm(hidden))[0]
        keys = torch.nn.functional.normalize(keys, dim=1)
        wanted.append(keys @ keys.T)
    found = structure_distance(dino, *pair, antialias)
    assert abs(found - structure_distance(dino, *pair, not antialias)) > 3e-4 * found  # and the hand must know which
    assert found == pytest.approx(float((wanted[0] - wanted[1]).square().mean()), rel=1e-4) and found > 1e-5
    assert structure_distance(dino, pair[0], pair[0]) == 0


@pytest.mark.parametrize("name", ["lpips/alexnet", "lpips/squeezenet1_1"])
def test_lpips_is_the_packages_with_the_trunk_of_the_file(weights, weights_folder, pair, name, tmp_path):
    package = pytest.importorskip("lpips")
    from lpips import pretrained_networks

    one, other = (np.asarray(image, np.float32) / 255 for image in pair)
    found = weights.lpips(name)(one, other)
    state = torch.load(weights_folder / f"{name}.pth", weights_only=True)
    features = {key.removeprefix("features."): value for key, value in state.items() if key.startswith("features.")}

    make = getattr(pretrained_networks.tv, name.split("/")[1])

    def trunk(pretrained):  # what torchvision's function gives, with the weights of the file: the package then cuts it up itself
        made = make(num_classes=2)
        made.features.load_state_dict(features)
        return made

    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        patch.setattr(pretrained_networks.tv, name.split("/")[1], trunk)
        reference = package.LPIPS(net=similarity.TRUNKS[name][0], pnet_rand=True, verbose=False)
    tensors = (torch.from_numpy(x).permute(2, 0, 1)[None] for x in (one, other))
    with torch.no_grad():
        wanted = float(reference(*tensors, normalize=True))
    assert found == pytest.approx(wanted, rel=1e-5) and found > 1e-4 and weights.lpips(name)(one, one) == 0
    # the same from safetensors, which goes before a pickle beside it
    (tmp_path / "lpips").mkdir()
    save_file(state, tmp_path / f"{name}.safetensors")
    (tmp_path / f"{name}.pth").write_bytes(b"not looked at")
    assert MetricWeights(tmp_path).lpips(name)(one, other) == found


class Evil:
    def __reduce__(self):
        return (print, ("this must never run",))


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_a_trunk_that_is_no_plain_file_is_refused(tmp_path, weights_folder, capsys):
    (tmp_path / "lpips").mkdir()
    file = tmp_path / "lpips" / "alexnet.pth"
    torch.save({"features.0.weight": Evil()}, file)
    with pytest.raises(ValueError, match="no file of plain tensors"):
        MetricWeights(tmp_path).lpips("lpips/alexnet")
    file.write_bytes(pickle.dumps(Evil()))
    with pytest.raises(ValueError, match="alexnet.pth"):
        MetricWeights(tmp_path).lpips("lpips/alexnet")
    assert "never run" not in capsys.readouterr().out
    shutil.copy(weights_folder / "lpips" / "squeezenet1_1.pth", file)
    with pytest.raises(ValueError, match=r"not torchvision's network for LPIPS \(alex\)"):
        MetricWeights(tmp_path).lpips("lpips/alexnet")


def test_what_is_missing_is_said_with_its_place(tmp_path, weights_folder):
    for name in similarity.SOURCES:
        why = MetricWeights(tmp_path).missing(name)
        assert f"the folder {tmp_path}/{name} is not there; put {similarity.SOURCES[name]} there" in why
        assert MetricWeights(weights_folder).missing(name) is None and "<--metric-weights>" in MetricWeights(None).missing(name)
    why = MetricWeights(tmp_path).missing("lpips/alexnet")
    assert f"{tmp_path}/lpips/alexnet.safetensors or .pth is not there" in why and "alexnet-owt-7be5be79.pth" in why
    with pytest.raises(ValueError, match="clip-vit-large-patch14: the folder"):
        MetricWeights(tmp_path).clip("clip-vit-large-patch14")
    # a pickle of a transformers model is not opened
    (tmp_path / "dino-vits16").mkdir()
    (tmp_path / "dino-vits16" / "pytorch_model.bin").write_bytes(b"x")
    assert "pytorch_model.bin is a pickle" in MetricWeights(tmp_path).missing("dino-vits16")


def test_grey_and_transparent_pictures_are_seen_as_rgb(weights):
    clip = weights.clip("clip-vit-base-patch32")
    grey = noisy(np.full((60, 60, 3), 90, np.uint8), 4).convert("L")
    assert torch.equal(clip.picture(grey), clip.picture(grey.convert("RGB")))
    assert torch.equal(clip.picture(grey.convert("RGBA")), clip.picture(Image.fromarray(np.asarray(grey.convert("RGB")))))


@pytest.mark.slow
def test_scenes_are_measured_with_lpips_where_its_weights_are(weights_folder, bundle, tmp_path, caplog):
    pytest.importorskip("lpips")
    options = ["scenes", "--bundle", str(bundle), "--count", "3", "--steps", "1", "--out", str(tmp_path), "--metric-weights"]
    assert main([*options, str(weights_folder)]) == 0
    tables = json.loads((tmp_path / "result.json").read_text())["tables"]
    edit, same, floor = (tables[system]["overall"]["lpips"] for system in ("edit", "identity", "autoencoder"))
    assert edit["n"] == 3 and 0 < floor["mean"] < edit["mean"] and same["mean"] > 0
    assert main([*options, str(tmp_path / "none")]) == 1 and "alexnet" in caplog.text
