# SPDX-License-Identifier: GPL-3.0-or-later
import pytest
import torch

from fireedit_core.regions import deformable_attention
from fireedit_core.regions.deformable_attention import DeformableAttention, sample_and_sum
from fireedit_core.regions.deformable_detr import (
    DeformableDetrRegionDetector,
    final_boxes,
    groma_state_dict,
    sine_boxes,
    sine_positions,
)
from fireedit_core.regions.loading import load_region_detector

BACKBONE = {"hidden_size": 32, "num_hidden_layers": 4, "num_attention_heads": 2, "image_size": 56, "patch_size": 14}


def tiny() -> DeformableDetrRegionDetector:
    torch.manual_seed(0)
    detector = DeformableDetrRegionDetector(
        BACKBONE, 112, d_model=32, heads=4, points=2, ffn_dim=48, encoder_layers=2, decoder_layers=3, queries=20
    )
    for parameter in detector.parameters():  # the heads start at zero; a test needs boxes that depend on the picture
        parameter.data += 0.05 * torch.randn_like(parameter)
    return detector.eval()


def test_end_to_end_any_size():
    detector = tiny()
    images = torch.rand(2, 3, 70, 90)
    first, second = detector.detect(images, score_threshold=0.0, iou_threshold=0.95)
    assert first.image_size == (70, 90) and 0 < len(first) <= 20
    assert (first.scores.diff() <= 0).all() and not torch.equal(first.scores, second.scores)
    again = detector.detect(images, score_threshold=0.0, iou_threshold=0.95)[0]
    assert torch.equal(first.boxes, again.boxes)


def test_output_is_groma_arithmetic():
    detector = tiny()
    with torch.no_grad():
        output = detector(torch.rand(1, 3, 112, 112))
    deltas, references = output["deltas"], output["references"]
    expected = (deltas[-1] + deltas[-2] + torch.logit(references)).sigmoid()
    assert torch.allclose(output["boxes"], expected, atol=1e-5)
    assert torch.allclose(output["boxes"], final_boxes(deltas, references))
    score = output["coco_logits"][-1].sigmoid() ** 0.4 * output["sa1b_logits"][-1].sigmoid() ** 0.6
    assert torch.equal(output["scores"], score)
    best = output["proposal_boxes"][0][output["proposal_logits"][0].topk(20).indices]
    assert torch.equal(best, references[0])


def test_full_size_shapes_and_parameters_on_meta():
    with torch.device("meta"):
        detector = DeformableDetrRegionDetector()
        output = detector(torch.zeros(1, 3, 448, 448))

    def millions(module):
        return sum(p.numel() for p in module.parameters()) / 1e6

    assert millions(detector.ddetr_transformer) == pytest.approx(11.1, abs=0.05)
    assert millions(detector.input_proj) == pytest.approx(0.26, abs=0.005)
    assert output["boxes"].shape == (1, 300, 4) and output["proposal_boxes"].shape == (1, 1024, 4)
    shapes = {name: tuple(value.shape) for name, value in detector.state_dict().items()}
    transformer = "ddetr_transformer."
    expected = {
        "input_proj.0.0.weight": (256, 1024, 1, 1),
        "input_proj.0.1.weight": (256,),
        "vis_encoder.embeddings.position_embeddings": (1, 1370, 1024),
        "vis_encoder.embeddings.patch_embeddings.projection.weight": (1024, 3, 14, 14),
        "vis_encoder.encoder.layer.23.attention.attention.query.weight": (1024, 1024),
        "vis_encoder.encoder.layer.23.attention.output.dense.bias": (1024,),
        "vis_encoder.encoder.layer.0.layer_scale2.lambda1": (1024,),
        transformer + "encoder.layers.5.self_attn.sampling_offsets.weight": (64, 256),
        transformer + "encoder.layers.5.self_attn.attention_weights.weight": (32, 256),
        transformer + "encoder.layers.0.fc1.weight": (1024, 256),
        transformer + "decoder.layers.5.self_attn.out_proj.weight": (256, 256),
        transformer + "decoder.layers.5.encoder_attn.value_proj.weight": (256, 256),
        transformer + "decoder.layers.5.encoder_attn_layer_norm.weight": (256,),
        transformer + "decoder.layers.0.final_layer_norm.weight": (256,),
        transformer + "level_embed": (1, 256),
        transformer + "query_position_embeddings.weight": (300, 256),
        transformer + "enc_output.weight": (256, 256),
        transformer + "enc_output_norm.weight": (256,),
        transformer + "pos_trans.weight": (512, 512),
        transformer + "pos_trans_norm.bias": (512,),
        transformer + "class_embed_enc.weight": (1, 256),
        transformer + "class_embed_coco.5.weight": (1, 256),
        transformer + "class_embed_sa1b.5.bias": (1,),
        transformer + "bbox_embed.6.layers.2.weight": (4, 256),
    }
    assert {name: shapes.get(name) for name in expected} == expected
    assert {name.split(".")[0] for name in shapes} == {"vis_encoder", "input_proj", "ddetr_transformer"}


def test_save_and_load(tmp_path):
    first = tiny()
    first.save_pretrained(tmp_path)
    second = load_region_detector(tmp_path)
    one, two = first.state_dict(), second.state_dict()
    assert one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)
    image = torch.rand(1, 3, 64, 64)
    assert torch.equal(first.detect(image, 0.0)[0].scores, second.detect(image, 0.0)[0].scores)


def test_public_weights_map_by_prefix():
    detector = tiny()
    plain = detector.state_dict()
    public = {"perceiver." + name: value for name, value in plain.items()}
    heads = [name for name in plain if "bbox_embed" in name or "class_embed_coco" in name]
    for name in heads:  # one tied copy may be the only one
        public["perceiver." + name.replace("ddetr_transformer.", "ddetr_transformer.decoder.")] = public.pop(
            "perceiver." + name
        )
    public["region_encoder.updims.weight"] = public["llm.lm_head.weight"] = torch.zeros(1)
    mapped = groma_state_dict(public)
    assert mapped.keys() == plain.keys()
    other = tiny()
    for parameter in other.parameters():
        torch.nn.init.zeros_(parameter)
    result = other.load_state_dict(mapped, strict=True)
    assert not result.missing_keys and not result.unexpected_keys
    assert all(torch.equal(value, plain[name]) for name, value in other.state_dict().items())
    with pytest.raises(ValueError, match="perceiver"):
        groma_state_dict({"unet.weight": torch.zeros(1)})


def test_sampling_against_a_plain_loop():
    generator = torch.Generator().manual_seed(0)
    shapes = [(3, 4), (2, 2)]
    value = torch.rand(1, 16, 2, 3, generator=generator)
    locations = torch.rand(1, 5, 2, 2, 2, 2, generator=generator) * 1.4 - 0.2
    weights = torch.rand(1, 5, 2, 2, 2, generator=generator)
    maps = [value[0, :12].view(3, 4, 2, 3), value[0, 12:].view(2, 2, 2, 3)]
    expected = torch.zeros(1, 5, 6)
    for q in range(5):
        for head in range(2):
            for level, (height, width) in enumerate(shapes):
                for point in range(2):
                    x = float(locations[0, q, head, level, point, 0]) * width - 0.5
                    y = float(locations[0, q, head, level, point, 1]) * height - 0.5
                    for row in range(height):
                        for column in range(width):
                            share = max(0.0, 1 - abs(x - column)) * max(0.0, 1 - abs(y - row))
                            amount = share * weights[0, q, head, level, point]
                            expected[0, q, head * 3 : head * 3 + 3] += amount * maps[level][row, column, head]
    assert torch.allclose(sample_and_sum(value, shapes, locations, weights), expected, atol=1e-5)


def test_sine_embeddings():
    positions = sine_positions(2, 4, 8, torch.zeros(1))
    assert positions.shape == (8, 8)
    assert torch.equal(positions[0, :4], positions[3, :4]) and not torch.equal(positions[0, 4:], positions[3, 4:])
    angle = torch.tensor(0.25 * 2 * torch.pi)  # row 0 of 2 has its centre at a quarter
    expected = torch.stack([angle.sin(), angle.cos(), (angle / 100).sin(), (angle / 100).cos()])
    assert torch.allclose(positions[0, :4], expected)
    assert sine_boxes(torch.rand(2, 5, 4), 8).shape == (2, 5, 16)


def test_sizes_that_do_not_fit_are_explained():
    for changes, message in [
        ({"image_size": 100}, "patch size"),
        ({"image_size": 112, "d_model": 30}, "d_model"),
        ({"image_size": 112, "queries": 65}, "queries"),
    ]:
        with pytest.raises(ValueError, match=message):
            DeformableDetrRegionDetector(BACKBONE, **changes)


# --- numbers, written out ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [2, 4])
def test_where_every_level_is_sampled(monkeypatch, width):
    """Points: reference + offset / (width, height) of the level. Boxes: centre + offset / points x half the box."""
    torch.manual_seed(0)
    layer, shapes = DeformableAttention(8, 2, 3, levels=2), [(3, 5), (2, 7)]
    seen = {}
    watch = lambda value, shapes, places, weights: seen.update(places=places, weights=weights) or weights.sum() * 0  # noqa: E731
    monkeypatch.setattr(deformable_attention, "sample_and_sum", watch)
    query, references = torch.randn(1, 4, 8), torch.rand(1, 4, 2, width)
    monkeypatch.setattr(layer, "output_proj", torch.nn.Identity())
    layer(query, references, torch.randn(1, 29, 8), shapes)
    offsets = layer.sampling_offsets(query).view(1, 4, 2, 2, 3, 2)
    for head, level, point in ((0, 0, 0), (1, 0, 2), (0, 1, 1), (1, 1, 2)):
        offset, reference = offsets[:, :, head, level, point], references[:, :, level]
        height, across = shapes[level]
        if width == 2:
            wanted = reference + offset / torch.tensor([across, height])
        else:
            wanted = reference[..., :2] + offset / 3 * reference[..., 2:] / 2
        assert torch.allclose(seen["places"][:, :, head, level, point], wanted, atol=1e-6)
    weights = layer.attention_weights(query).view(1, 4, 2, 6).softmax(-1).view(1, 4, 2, 2, 3)  # over levels and points together
    assert torch.allclose(seen["weights"], weights)


@torch.no_grad()
def test_what_reaches_the_transformer():
    """The mean of the last four states before the final norm, patches row by row, of a picture normalised as DINOv2's are."""
    from transformers.image_utils import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD

    detector, seen = tiny(), []
    detector.input_proj[0].register_forward_pre_hook(lambda module, given: seen.append(given[0]))
    pictures = torch.rand(1, 3, 112, 112, generator=torch.Generator().manual_seed(1))
    detector(pictures)
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD))
    states = detector.vis_encoder((pictures - mean) / std, output_hidden_states=True).hidden_states
    assert len(states) == 5
    wanted = sum(states[i] for i in (1, 2, 3, 4))[:, 1:] / 4
    for row, column in ((0, 0), (0, 5), (3, 1), (7, 7)):
        assert torch.allclose(seen[0][0, :, row, column], wanted[0, 8 * row + column], atol=1e-5)


@torch.no_grad()
def test_anchors_and_the_decoder_s_queries():
    detector = tiny()
    transformer, seen = detector.ddetr_transformer, []
    for weight in transformer.bbox_embed[-1].parameters():
        weight.zero_()
    transformer.decoder.layers[0].register_forward_pre_hook(lambda module, given: seen.append(given))
    features = torch.randn(1, 32, 4, 6, generator=torch.Generator().manual_seed(0))
    out = transformer(features)
    boxes = out["proposal_boxes"][0].view(4, 6, 4)
    for row in range(4):
        for column in range(6):
            wanted = torch.tensor([(column + 0.5) / 6, (row + 0.5) / 4, 0.05, 0.05])
            assert torch.allclose(boxes[row, column], wanted, atol=1e-5)
    hidden, position = seen[0][:2]
    embedded = transformer.pos_trans_norm(transformer.pos_trans(sine_boxes(out["references"], 32)))
    assert torch.allclose(position, embedded[..., :32], atol=1e-5)
    assert torch.equal(hidden[0], transformer.query_position_embeddings.weight)


def test_boxes_of_a_picture_that_is_no_square(monkeypatch):
    detector = tiny()
    given = {"boxes": torch.tensor([[[0.5, 0.25, 0.2, 0.1]]]), "scores": torch.tensor([[0.7]])}
    monkeypatch.setattr(detector, "forward", lambda images: given)
    boxes, scores = detector.predict_boxes(torch.rand(1, 3, 40, 100))
    assert torch.allclose(boxes, torch.tensor([[[40.0, 8, 60, 12]]])) and torch.equal(scores, given["scores"])
