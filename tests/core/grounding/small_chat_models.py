# SPDX-License-Identifier: GPL-3.0-or-later
"""Small random chat models of the true classes, with tokenizers made here, saved as users have them on disk."""

from __future__ import annotations

import json

import torch
import transformers
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

_TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{% for c in m['content'] %}{% if c['type'] == 'image' %}IMAGE"
    "{% else %}{{ c['text'] }}{% endif %}{% endfor %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
_TURNS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
_VISION = ["<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>"]


def tokenizer(folder, special, kind="PreTrainedTokenizerFast", **settings):
    """A tokenizer of single bytes and whole special words; written as files, so that every release of transformers reads it its way."""
    folder.mkdir(parents=True, exist_ok=True)
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {character: i for i, character in enumerate(alphabet)}
    made = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    made.add_special_tokens([AddedToken(word, special=True, normalized=False) for word in special])
    made.save(str(folder / "tokenizer.json"))
    (folder / "vocab.json").write_text(json.dumps(vocabulary))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    words = {
        str(made.token_to_id(word)): {"content": word, "special": True, "normalized": False, "lstrip": False, "rstrip": False,
                                      "single_word": False}
        for word in special
    }  # fmt: skip
    config = {"tokenizer_class": kind, "added_tokens_decoder": words, "model_max_length": 100_000, "clean_up_tokenization_spaces": False}
    (folder / "tokenizer_config.json").write_text(json.dumps(config | settings))
    return transformers.AutoTokenizer.from_pretrained(folder)


def _qwen_parts(folder):
    words = tokenizer(
        folder, [*_TURNS, *_VISION], "Qwen2Tokenizer", eos_token="<|im_end|>", pad_token="<|endoftext|>", unk_token="<|endoftext|>",
        additional_special_tokens=_VISION,
    )  # fmt: skip
    template = _TEMPLATE.replace("IMAGE", "<|vision_start|><|image_pad|><|vision_end|>")
    number = words.convert_tokens_to_ids
    ids = {
        "image_token_id": number("<|image_pad|>"), "video_token_id": number("<|video_pad|>"),
        "vision_start_token_id": number("<|vision_start|>"), "vision_end_token_id": number("<|vision_end|>"),
    }  # fmt: skip
    return words, template, ids


def _text(words, **more):
    return {
        "vocab_size": len(words), "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2,
        "num_key_value_heads": 1, "bos_token_id": None, "eos_token_id": words.eos_token_id, "pad_token_id": words.pad_token_id,
    } | more  # fmt: skip


def _save(network, folder, words):
    network.generation_config.eos_token_id = words.eos_token_id
    network.generation_config.pad_token_id = words.pad_token_id
    network.save_pretrained(folder)


def qwen2_5_vl(folder):
    """Boxes in pixels of the picture as seen."""
    words, template, ids = _qwen_parts(folder)
    rope = {"rope_scaling": {"type": "mrope", "mrope_section": [2, 3, 3]}}
    config = transformers.Qwen2_5_VLConfig(
        text_config=_text(words, **rope),
        vision_config={"depth": 2, "hidden_size": 32, "intermediate_size": 48, "num_heads": 2, "out_hidden_size": 32,
                       "fullatt_block_indexes": [1]},
        **ids,
    )  # fmt: skip
    _save(transformers.Qwen2_5_VLForConditionalGeneration(config), folder, words)
    # a limit as folders have it, which the loader raises
    images = transformers.Qwen2VLImageProcessor(min_pixels=56 * 56, max_pixels=28 * 28 * 4)
    transformers.Qwen2_5_VLProcessor(images, words, transformers.Qwen2VLVideoProcessor(), chat_template=template).save_pretrained(folder)


def qwen3_vl(folder):
    """Boxes from 0 to 1000."""
    words, template, ids = _qwen_parts(folder)
    rope = {"rope_type": "default", "mrope_interleaved": True, "mrope_section": [4, 2, 2]}
    config = transformers.Qwen3VLConfig(
        text_config=_text(words, head_dim=16, rope_scaling=rope),
        vision_config={"depth": 2, "hidden_size": 32, "intermediate_size": 48, "num_heads": 2, "out_hidden_size": 32,
                       "num_position_embeddings": 64, "deepstack_visual_indexes": [0]},
        **ids,
    )  # fmt: skip
    _save(transformers.Qwen3VLForConditionalGeneration(config), folder, words)
    images = transformers.Qwen2VLImageProcessor(patch_size=16)
    videos = transformers.Qwen3VLVideoProcessor()
    transformers.Qwen3VLProcessor(images, words, videos, chat_template=template).save_pretrained(folder)


def llava(folder):
    """Marks only."""
    words = tokenizer(
        folder, [*_TURNS, "<image>"], eos_token="<|im_end|>", pad_token="<|endoftext|>", unk_token="<|endoftext|>",
        additional_special_tokens=["<image>"],
    )  # fmt: skip
    config = transformers.LlavaConfig(
        vision_config={"model_type": "clip_vision_model", "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
                       "num_attention_heads": 2, "image_size": 56, "patch_size": 14, "projection_dim": 32},
        text_config=_text(words, model_type="llama"), image_token_index=words.convert_tokens_to_ids("<image>"), vision_feature_layer=-1,
    )  # fmt: skip
    _save(transformers.LlavaForConditionalGeneration(config), folder, words)
    images = transformers.CLIPImageProcessor(size={"shortest_edge": 56}, crop_size={"height": 56, "width": 56})
    transformers.LlavaProcessor(
        images, words, patch_size=14, vision_feature_select_strategy="default", num_additional_image_tokens=1,
        chat_template=_TEMPLATE.replace("IMAGE", "<image>"),
    ).save_pretrained(folder)  # fmt: skip


def florence2(folder):
    """Words for places: `<loc_0>` to `<loc_999>`."""
    places = [f"<loc_{i}>" for i in range(1000)]
    words = tokenizer(
        folder, ["<s>", "<pad>", "</s>", "<unk>", "<image>", *places], "BartTokenizer", bos_token="<s>", pad_token="<pad>",
        eos_token="</s>", unk_token="<unk>", extra_special_tokens={"image_token": "<image>"},
    )  # fmt: skip
    number = words.convert_tokens_to_ids
    ids = {"bos_token_id": number("<s>"), "pad_token_id": number("<pad>"), "eos_token_id": number("</s>"),
           "decoder_start_token_id": number("</s>"), "forced_eos_token_id": number("</s>")}  # fmt: skip
    config = transformers.Florence2Config(
        vision_config={"depths": [1, 1, 1, 1], "embed_dim": [8, 8, 8, 8], "num_heads": [1, 1, 1, 1], "num_groups": [1, 1, 1, 1],
                       "window_size": 2, "projection_dim": 32, "max_position_embeddings": 8, "max_temporal_embeddings": 8},
        text_config={"model_type": "bart", "vocab_size": len(words), "d_model": 32, "encoder_layers": 1, "decoder_layers": 1,
                     "encoder_attention_heads": 2, "decoder_attention_heads": 2, "encoder_ffn_dim": 32, "decoder_ffn_dim": 32,
                     "max_position_embeddings": 600, **ids},
        image_token_id=number("<image>"),
    )  # fmt: skip
    network = transformers.Florence2ForConditionalGeneration(config)
    network.save_pretrained(folder)
    images = transformers.CLIPImageProcessor(size={"height": 64, "width": 64}, do_center_crop=False)
    images.image_seq_length = 5
    tasks = {name: {} for name in ("pure_text", "phrase_grounding")}
    transformers.Florence2Processor(images, words, post_processor_config=tasks).save_pretrained(folder)


class Forced(transformers.LogitsProcessor):
    """Makes a model write a text, whatever it would have said; then the end."""

    def __init__(self, tokens, end):
        self._left = [*tokens, end]

    def __call__(self, input_ids, scores):
        forced = torch.full_like(scores, float("-inf"))
        token = self._left.pop(0)
        # what rules tokens out before us must have left this one
        assert torch.isfinite(scores[0, token]), f"token {token} was ruled out"
        forced[:, token] = 0
        return forced


def free(model):
    """Without the library that holds replies to a form."""
    model._vocabulary = type("Free", (), {"ready": False, "constraint": lambda self, schema: None})()


def script(model, *texts):
    """Make a chat model say these texts, one for each call of `generate`."""
    left, real = list(texts), type(model.network).generate

    def generate(**inputs):
        tokens = model.processor.tokenizer(left.pop(0), add_special_tokens=False)["input_ids"]
        end = model.processor.tokenizer.eos_token_id
        rules = [*inputs.pop("logits_processor", []), Forced(tokens, end)]
        return real(model.network, **inputs, logits_processor=transformers.LogitsProcessorList(rules))

    model.network.generate = generate
    return left
