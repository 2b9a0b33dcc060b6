# SPDX-License-Identifier: GPL-3.0-or-later
"""A photograph's crop and its way back: places to a fraction of a pixel, colours, weights along the seam."""

from __future__ import annotations

from ..mutant import of

FRAME = "tests/core/photo/test_frame.py"
CROP = "tests/core/photo/test_crop.py"
REGISTRATION = "tests/core/photo/test_registration.py"
DRIFT = "tests/core/photo/test_drift.py"
FINISH = "tests/core/photo/test_finish.py"
BY_HAND = " ".join(
    f"{FINISH}::test_{name}" for name in (
        "the_weight_along_a_row_by_hand", "what_counts_as_changed_where_no_mask_came", "a_step_is_the_slope_per_pixel", "the_reports_numbers_by_hand",
        "what_the_mask_marks_has_no_say_in_motion_and_colours", "at_the_photos_own_edge_nothing_fades",
    )
)  # fmt: skip

MUTANTS = [
    *of(
        "fireedit_core/photo/frame.py", FRAME,
        ("_LOBES = 3", "_LOBES = 2", "constant"),
        ("(float(math.floor(x / 2)) for x in free)", "(0.0 for x in free)", "place"),
        ("(np.arange(target) + 0.5 - offset) / scale - 0.5", "(np.arange(target) - offset) / scale", "half a pixel"),
        ("widened = max(1.0, 1 / scale)", "widened = 1.0", "aliasing"),
        ("across = _matrix(width, self.grid[1], 1 / self.scale, -self.padding[0] / self.scale)",
         "across = _matrix(width, self.grid[1], 1 / self.scale, -self.padding[0])", "unit"),
        ("made.clamp_(low, high)", "made", "clamp"),
        ("np.floor(edges[:-1] + 1e-6)", "np.ceil(edges[:-1] - 1e-6)", "rounding"),
        ("where = np.clip(places, 0, source - 1).ravel()[kept]", "where = (places % source).ravel()[kept]", "edge"),
        ("self.padding[1 - axis], self.scale)", "self.padding[axis], self.scale)", "axis"),
        ("padding=tuple(x * ratio for x in self.padding)", "padding=self.padding", "unit"),
        ("miss = [padding[0] + (x1 - x0) * scale + padding[2] - grid[1]", "miss = [0.0", "check"),
    ),
    *of(
        "fireedit_core/photo/crop.py", CROP,
        ("settings.context * ((bottom - top) + (right - left)) / 2)", "settings.context * min(bottom - top, right - left))", "formula"),
        ("LARGEST_SCALE = 4.0", "LARGEST_SCALE = 8.0", "constant"),
        ("MEGAPIXEL = 1024**2", "MEGAPIXEL = 10**6", "constant"),
        ("> settings.whole_above * height * width", "> settings.whole_above**2 * height * width", "formula"),
        ("sum(math.log(width / height) for height, width in parts)", "sum(math.log(height / width) for height, width in parts)", "axis"),
        ("max(1, round(side / settings.multiple))", "max(1, int(side / settings.multiple))", "rounding"),
        ("(grid for grid in grids if grid not in taken)", "grids", "ambiguous"),
        ("start = first - (length - (last - first)) // 2", "start = first - (length - (last - first))", "place"),
        ("F.adaptive_max_pool2d(mask", "F.adaptive_avg_pool2d(mask", "share"),
        ("context: float = 0.5", "context: float = 0.25", "default"),
        ("whole_above: float = 0.4", "whole_above: float = 0.8", "default"),
        ("math.sqrt(settings.megapixels * MEGAPIXEL / (wide * high)) / LARGEST_SCALE", "settings.megapixels * MEGAPIXEL / (wide * high) / LARGEST_SCALE",
         "formula"),
    ),
    *of(
        "fireedit_core/photo/registration.py", REGISTRATION,
        ("half = np.array([0.5, 0.5])", "half = np.array([0.0, 0.0])", "half a pixel"),
        ("FAR = 0.15", "FAR = 0.5", "constant"),
        ("SURE = 0.15", "SURE = 0.0", "constant"),
        ("_HALVES = 1.0", "_HALVES = 10.0", "constant"),
        ("STILL = 0.15", "STILL = 1.5", "constant"),
        ("2 / 3 - x**2 + x**3 / 2", "2 / 3 - x**2 + x**3 / 3", "formula"),
        ("float(np.sqrt(abs(np.linalg.det(self.matrix[:, :2]))))", "float(abs(np.linalg.det(self.matrix[:, :2])))", "formula"),
        ("x, y = self.matrix[:, :2] @ middle + self.matrix[:, 2] - middle", "x, y = self.matrix[:, 2]", "formula"),
        ("level.free * (1 - boards[-1]))", "level.free * boards[-1])", "wrong half",
         f"{REGISTRATION}::test_a_bend_is_judged_where_the_search_did_not_look"),
        ("borderMode=cv2.BORDER_REPLICATE)\n    return made", "borderMode=cv2.BORDER_CONSTANT)\n    return made", "edge"),
        ("else (mask <= 0).astype(np.float32)", "else (mask > 0).astype(np.float32)", "mask"),
        ("matrix, unsure = _polished(levels, _rescaled(matrix, step, 1.0), size, check)", "matrix, unsure = _rescaled(matrix, step, 1.0), 0.1",
         "dropped part"),
        ("_ERRORS = 10.0", "_ERRORS = 1.0", "constant"),
        ("bent >= _GAIN * straight", "bent > straight", "constant"),
        ("down.T @ down + across.T @ across + 2 * both.T @ both", "down.T @ down + across.T @ across", "dropped part"),
    ),
    *of(
        "fireedit_core/photo/drift.py", DRIFT,
        ("_CLIPPED = 0.008", "_CLIPPED = -1.0", "constant"),
        ("_TUKEY = 4.685", "_TUKEY = 100.0", "constant"),
        ("    matrix[:, 3] -= found[:3].T @ middle\n", "", "dropped part"),
        ("_UNSEEN = 1.0 / 255", "_UNSEEN = 0.0", "constant"),
        ("_STRONG = 0.6", "_STRONG = 6.0", "constant"),
        ("[np.ones(x.size), x.ravel(), y.ravel()]", "[np.ones(x.size), y.ravel(), x.ravel()]", "axis"),
        ("return _lit(made, self.last).clip(0, 1)", "return _lit(made, self.last)", "clamp"),
        ("_UNEVEN = 0.75", "_UNEVEN = 0.0", "dropped part"),
        ("edited = _lit(edited, self.first)", "edited = edited", "dropped part"),
        ("_ALONE = 0.5", "_ALONE = 2.0", "constant"),
        ("_HOLD = 0.02", "_HOLD = 2.0", "constant"),
        ("outside.astype(np.float32)) > 0.999", "outside.astype(np.float32)) > 0.0", "bound"),
    ),
    *of(
        "fireedit_core/photo/finish.py", f"{BY_HAND} {FINISH}",
        ("GROW, FEATHER = 6, 16", "GROW, FEATHER = 0, 16", "default"),
        ("_STRETCH = 0.08", "_STRETCH = 0.5", "constant"),
        ("wide, soft = grow / frame.scale, feather / frame.scale", "wide, soft = grow, feather", "unit"),
        ("return x * x * (3 - 2 * x)", "return x", "formula"),
        ("_CHANGED = 14 / 255", "_CHANGED = 2 / 255", "constant"),
        ("_SPECK = 0.0004", "_SPECK = 0.04", "constant"),
        ("_ramp(1 - (away - wide) / soft)", "_ramp(1 - away / soft)", "dropped option"),
        ("np.abs(change).mean(0)[alpha > 0]", "np.abs(change).mean(0)[alpha >= 0]", "mask"),
        (".max(0)[alpha == 0]", ".max(0)[alpha < 0]", "mask"),
        ("cv2.Scharr(calm, cv2.CV_32F, 0, 1)) / 32)", "cv2.Scharr(calm, cv2.CV_32F, 0, 1)) / 16)", "constant"),
        ("if first > 0:", "if first >= 0:", "bound"),
        ("_wider(small, max(grow, _NEAR * larger)) == 0)", "_wider(small, max(grow, _NEAR * larger)) >= 0)", "mask"),
        ("reach = math.ceil(2 * max(1.0, frame.scale)) + 2", "reach = 0", "edge",
         f"{FINISH}::test_a_part_of_a_large_photo_is_undone_as_the_whole_would_be"),
        ("align(new, before, None if small is None else _wider(small, grow), check)", "align(new, before, None, check)", "dropped option"),
    ),
]  # fmt: skip
