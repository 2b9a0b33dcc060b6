# SPDX-License-Identifier: GPL-3.0-or-later
"""Losses, batches, caches, the loop."""

from __future__ import annotations

from ..mutant import of

DIFFUSION = "tests/core/training/test_formulas.py tests/core/training/test_diffusion.py"
LOOP = "tests/core/training/test_formulas.py tests/core/training/test_loop.py"
CACHE = "tests/core/training/test_edit_cache.py"
PAPER = "tests/core/training/paper/test_losses.py tests/core/training/paper/test_formulas.py"
BATCHES = "tests/core/training/paper/test_batches.py tests/core/training/paper/test_shapes.py"
TABLE = "tests/core/training/paper/test_batches.py::test_a_table_of_sizes_lies_on_disk_and_knows_what_it_does_not_know"
POSTERIOR = "tests/core/training/paper/test_train.py::test_targets_are_drawn_from_the_posterior_by_the_row_s_seed"
RATES = "tests/core/training/paper/test_train.py::test_what_a_conversion_leaves_untrained_learns_at_a_rate_of_its_own"

MUTANTS = [
    *of(
        "fireedit_core/training/diffusion.py", DIFFUSION,
        ("weight = 1 + self.edit_weight * (batch.mask > 0.05).float()", "weight = 1 + self.edit_weight * (batch.mask <= 0.05).float()", "mask"),
        ("edit_weight: float = 3.0", "edit_weight: float = 0.3", "default"),
        ("loss = (first + second) / 2", "loss = first", "dropped part"),
        ("clean = torch.where(own[:, None, None, None], answer.detach(), target)", "clean = torch.where(own[:, None, None, None], answer, target)",
         "gradient"),
        ("where * text[:, None, None, None], source)", "where, source)", "dropped rows"),
        ("* image[:, None, None, None]\n        return", "\n        return", "dropped rows"),
        ("project(tokens * image[:, None, None])", "project(tokens)", "dropped rows"),
        ("(1 - torch.rand(count) / 10) * steps", "torch.rand(count) * steps", "schedule"),
        ("torch.rand(count).sqrt() * steps", "torch.rand(count).square() * steps", "schedule"),
        ("stage.ema.copy_to(stage.trainable)", "pass", "averages"),
        ("\"v_prediction\": lambda: signal * noisy - sigma * out,", "\"v_prediction\": lambda: signal * noisy + sigma * out,", "sign"),
        ("return u < 2 * p, (u >= p) & (u < 3 * p)", "return u < 2 * p, (u >= 2 * p) & (u < 3 * p)", "formula"),
        ("coarse = F.avg_pool2d(latent, factor, ceil_mode=True)", "coarse = latent", "dropped part"),
        ("manual_seed(epoch))", "manual_seed(0))", "seeds"),
        ("SLOW = 0.7", "SLOW = 7.0", "constant"),
        ("e_t (B, 77, D) at the timesteps t (B,).\"\"\"\n        e = given.edit_embedding", "e_t (B, 77, D) at the timesteps t (B,).\"\"\"\n        t = t * 0\n        e = given.edit_embedding", "time"),
    ),
    *of(
        "fireedit_core/training/edit_cache.py", CACHE,
        ("\"world\": world.fingerprint(), \"weights\"", "\"weights\"", "stale key"),
        ("\"split\": split, \"regions\": regions,", "\"split\": split,", "stale key"),
        ("\"weights\": weights or fingerprint(components),", "", "stale key"),
        ("* latent_scale(c[\"vae\"])", "", "scale"),
        ("generator.sample(self.first + i)", "generator.sample(i)", "wrong rows"),
        ("self.seed * 1_000_003 + number)", "self.seed)", "seeds"),
        ("chosen.setdefault(self._oldest(number) + which, [])", "chosen.setdefault(which, [])", "wrong rows"),
        ("torch.random.set_rng_state(training)", "pass", "random state"),
    ),
    *of(
        "fireedit_core/training/loop.py", LOOP,
        ("first = (number * world + rank) * self.config.batch", "first = number * self.config.batch", "wrong rows"),
        ("self.accelerator.backward(loss / c.accumulate)", "self.accelerator.backward(loss)", "formula"),
        ("(1 - math.cos(math.pi * left)) / 2", "math.cos(math.pi * left)", "formula"),
        ("min(1.0, (p.step + 1) / max(1, c.warmup))", "1.0", "warm-up"),
        ("\"weight_decay\": config.weight_decay if matrices else 0.0", "\"weight_decay\": config.weight_decay", "formula"),
        ("self.stage.ema.restore(self.stage.trainable)", "pass", "averages"),
        ("betas=(0.9, 0.99)", "betas=(0.99, 0.9)", "constant"),
    ),
    *of(
        "fireedit_core/training/alignment.py", "tests/core/training/test_formulas.py",
        ("loss + 5 * F.mse_loss(said", "loss + 0 * F.mse_loss(said", "constant"),
        ("dice = 1 - (2 * (soft * wanted).sum((1, 2)) + 1) /", "dice = 1 - ((soft * wanted).sum((1, 2)) + 1) /", "constant"),
        ("head(embedding[:, index])", "head(embedding[:, 0])", "first row"),
        ("known = target >= 0\n", "known = target >= -1\n", "bound"),
    ),
    *of(
        "fireedit_core/training/batches.py", "tests/core/training/test_batches.py",
        ("(order == s.target_index)", "(order.flip(0) == s.target_index)", "wrong row"),
        ("torch.cat([(corner + far) / 2, far - corner], dim=1)", "torch.cat([corner, far - corner], dim=1)", "formula"),
        ("[palette[s.colours[i]] for i in order]", "[palette[c] for c in s.colours]", "wrong row"),
    ),
    *of(
        "fireedit_core/training/autoencoder.py", "tests/core/training/test_autoencoder.py tests/core/training/test_formulas.py",
        ("return pixel + 0.1 * edges + 0.05 * unit", "return pixel + 0.1 * edges", "dropped part"),
        ("mse = F.mse_loss(out.clamp(-1, 1), pictures) / 4", "mse = F.mse_loss(out.clamp(-1, 1), pictures)", "constant"),
    ),
    *of(
        "fireedit_core/training/paper/losses.py", PAPER,
        ("\"epsilon\": clipped / snr", "\"epsilon\": clipped", "formula"),
        ("signal * noise - sigma * clean}[kind]", "signal * clean - sigma * noise}[kind]", "formula"),
        ("(columns[-1] + 1) / width", "columns[-1] / width", "off by one"),
        ("overlap = overlap.masked_fill(~region_mask[row], -1)", "overlap = overlap", "mask"),
        ("torch.where(has_mask, paint, zero)", "paint", "mask"),
        ("manual_seed(seed % 2**63)", "manual_seed(0)", "seeds"),
    ),
    *of(
        "fireedit_core/training/paper/batches.py", BATCHES,
        ("own = draws[self.rank * self.config.batch : (self.rank + 1) * self.config.batch]", "own = draws[: self.config.batch]", "wrong rows"),
        ("rng = np.random.default_rng((config.seed, draw))", "rng = np.random.default_rng(config.seed)", "seeds"),
        ("target=change(sample.target)", "target=fit(sample.target, size)", "wrong cut"),
        ("labels += new if speaker == \"gpt\" else", "labels += new if speaker == \"human\" else", "wrong rows"),
    ),
    *of(
        "fireedit_core/training/paper/model.py", "tests/core/training/paper/test_formulas.py tests/core/training/paper/test_train.py",
        ("latents * (self.source_factor * (~picture_dropped).view(-1, 1, 1, 1))", "latents * self.source_factor", "dropped rows"),
        ("else where * (~text_dropped).view(-1, 1, 1, 1)", "else where", "dropped rows"),
        ("config.language_weight * language + config.diffusion_weight * diffusion", "config.language_weight * language + diffusion", "dropped option"),
    ),
    *of(
        "fireedit_core/diffusion/latents.py", POSTERIOR,
        ("return out.latent_dist.std if", "return out.latent_dist.var if", "formula"),
    ),
    *of(
        "fireedit_core/data/size_table.py", f"{TABLE} {BATCHES}",
        ("[row] = height << SIDE | width", "[row] = width << SIDE | height", "axis"),
        ('f"{digest}-{rows}.sizes"', 'f"{digest}.sizes"', "stale key"),
        ("os.truncate(file.fileno(), 4 * self.rows)", "os.truncate(file.fileno(), 0), os.truncate(file.fileno(), 4 * self.rows)", "lost rows"),
        ("and 0 < width < 1 << SIDE", "", "check"),
        ("hashlib.blake2b(name.encode(), digest_size=8)", "hashlib.blake2b(b'', digest_size=8)", "stale key"),
    ),
    *of(
        "fireedit_core/training/paper/features.py", f"{POSTERIOR} {BATCHES} tests/core/training/paper/test_formulas.py",
        ("(seed ^ POSTERIOR) % 2**63", "POSTERIOR", "seeds"),
        ('return mode + self._stack(rows, "spread") * torch.stack(noise).to(mode)', 'return mode + torch.stack(noise).to(mode)', "dropped part"),
        ("zip(rows, spread.float() * scale, strict=True)", "zip(rows, spread.float(), strict=True)", "scale"),
        ("latent_mode(out).float() * scale]", "latent_mode(out).float()]", "scale"),
        ("(0, 0, 0, width - len(row[\"boxes\"])))", "(0, 0, width - len(row[\"boxes\"]), 0))", "place"),
    ),
    *of(
        "fireedit_core/training/loop.py", f"{RATES} {LOOP}",
        ("if scales.get(p, 1.0) == scale and (p.ndim > 1) == matrices]", "if scales.get(p, 1.0) >= scale and (p.ndim > 1) == matrices]", "wrong rows"),
        ("for prefix, s in self.scales.items() if name.startswith(prefix)}", "for prefix, s in self.scales.items()}", "wrong rows"),
    ),
    *of(
        "fireedit_core/training/paper/train.py", RATES,
        ('FRESH = ("qformer", "tati", "hvca", "visual_attention")', 'FRESH = ("qformer", "tati", "hvca")', "dropped part"),
        ('f"parts.{part}.": config.fresh_lr for part in FRESH', 'f"parts.{part}.": 1.0 for part in FRESH', "dropped option"),
    ),
]  # fmt: skip
