// SPDX-License-Identifier: GPL-3.0-or-later
// The text of FireEdit Region Select, as fireedit_core/regions/choice.py reads it.

const SAME_THING = 0.75; // fireedit_core/regions/suppression.py

const kind = (value) => (value === null ? "nothing" : Array.isArray(value) ? "list" : typeof value);
const isBox = (value) => kind(value) === "list" && value.length === 4;

/** The state of a text, every key of it; null for one that the node would refuse, such as one that is being typed. */
export function parse(text) {
  const state = { mode: "auto", picked: [], boxes: [], moved: {}, names: {}, found: {}, picture: "" };
  try {
    for (const [key, value] of Object.entries(JSON.parse(text.trim() || "{}"))) {
      if (kind(value) !== kind(state[key])) return null;
      state[key] = value;
    }
  } catch {
    return null;
  }
  state.boxes = state.boxes.map((b) => (Array.isArray(b) ? { box: b } : b));
  const boxes = [...state.boxes.map((b) => b?.box), ...Object.values(state.moved), ...Object.values(state.found)];
  return boxes.every(isBox) ? state : null;
}

/** The shortest text of a state: what is as in an empty one is left out. */
export function write(state) {
  const out = {};
  if (state.mode !== "auto") out.mode = state.mode;
  if (state.picked.length) out.picked = [...state.picked].sort((a, b) => a - b);
  if (state.boxes.length) out.boxes = state.boxes;
  for (const key of ["moved", "names", "found"]) if (Object.keys(state[key]).length) out[key] = state[key];
  if (state.picture && ["picked", "boxes", "moved", "names"].some((key) => key in out)) out.picture = state.picture;
  return Object.keys(out).length ? JSON.stringify(out) : "";
}

/** Numbers of the regions that a state speaks of. */
export const numbersOf = ({ picked, moved, names }) => [...new Set([...picked, ...Object.keys(moved), ...Object.keys(names)].map(Number))];

/** A state by the numbers that its regions have among these boxes: one whose box was written down is known by its place. What is said of
 * others is left out, and they are told as `missing`. */
export function among(state, boxes) {
  const now = new Map(numbersOf(state).map((number) => [number, numberOf(number, state.found[number], boxes)]));
  const renumbered = (said) => Object.fromEntries(Object.entries(said).map(([k, v]) => [now.get(+k), v]).filter(([k]) => k !== null));
  return {
    ...state, picked: [...new Set(state.picked.map((k) => now.get(k)).filter((k) => k !== null))],
    moved: renumbered(state.moved), names: renumbered(state.names), found: {}, missing: [...now.keys()].filter((k) => now.get(k) === null),
  };
}

function numberOf(number, place, boxes) {
  if (!place) return number; // of an older text, or typed
  const near = boxes.map((box) => overlap(place, box)), best = Math.max(...near);
  if (!(best >= SAME_THING)) return null;
  return near[number] === best ? number : near.indexOf(best);
}

/** Intersection over union. */
function overlap([a, b, c, d], [e, f, g, h]) {
  const shared = Math.max(Math.min(c, g) - Math.max(a, e), 0) * Math.max(Math.min(d, h) - Math.max(b, f), 0);
  return shared / ((c - a) * (d - b) + (g - e) * (h - f) - shared);
}

/** Whether two fingerprints (fireedit_core/thumbnail.py) are of one picture; what has none is taken to be. */
export function samePicture(one, two) {
  if (!one || !two) return true;
  const [[size, cells], [otherSize, otherCells]] = [one, two].map((text) => String(text).split(":"));
  let a, b;
  try {
    [a, b] = [cells, otherCells].map(atob);
  } catch {
    return true; // being typed
  }
  return size === otherSize && [...a].every((c, i) => Math.abs(c.charCodeAt(0) - b.charCodeAt(i)) <= 0.03 * 255);
}
