// SPDX-License-Identifier: GPL-3.0-or-later
// The picker of FireEdit Region Select. Its whole state is the text of the widget "selection" (see selection.js);
// what is drawn here is that text over the picture and the regions of the last run. One DOM element, so that it is the same in
// the classic and in the Nodes 2.0 renderer; pointers are captured, because the latter stops events from bubbling.

import { app } from "../../scripts/app.js";
import { api } from "../../scripts/api.js";
import { addElement } from "./element_widget.js";
import { provide } from "./examples.js";
import { among, numbersOf, parse, samePicture, write } from "./selection.js";

const NODE = "FireEditRegionSelect";
const WIDGET = "FIREEDIT_REGION_PICKER";
const MODES = { auto: "auto: the model chooses", restrict: "restrict: only the picked", force: "force: edit exactly the picked" };
const LEAST = 4; // picture pixels: a shorter drag is a click
const FEW = 12; // so many regions may have names that are wider than they are
const UNNAMED = "object"; // fireedit_core/regions/record.py
const SVG = "http://www.w3.org/2000/svg";

const STYLE = `
.fireedit-picker { display: flex; flex-direction: column; gap: 4px; width: 100%; height: 100%; min-height: 200px; box-sizing: border-box;
  font: 12px sans-serif; color: var(--input-text, #ddd); }
.fireedit-picker .bar { display: flex; gap: 4px; align-items: center; flex: none; }
.fireedit-picker .bar select, .fireedit-picker .bar button { font: inherit; color: inherit; background: var(--comfy-input-bg, #222);
  border: 1px solid var(--border-color, #4e4e4e); border-radius: 4px; padding: 3px 6px; }
.fireedit-picker .bar select { flex: 1; min-width: 0; }
.fireedit-picker .stage { position: relative; flex: 1; min-height: 0; background: #1116; border-radius: 4px; overflow: hidden; }
.fireedit-picker svg { position: absolute; inset: 0; width: 100%; height: 100%; touch-action: none; cursor: crosshair; }
.fireedit-picker g[role] { cursor: pointer; outline: none; }
.fireedit-picker g[role] circle { opacity: 0; pointer-events: none; }
.fireedit-picker g[role]:is(.over, :focus, [aria-checked=true]) circle { opacity: 1; pointer-events: auto; }
.fireedit-picker g[role].over .edge { stroke: #fff; }
.fireedit-picker g:is(.names, .tip) { pointer-events: none; }
.fireedit-picker g[role]:focus-visible .edge { stroke-dasharray: 6 3; }
.fireedit-picker input.name { position: absolute; width: 9em; font: inherit; z-index: 1; }
.fireedit-picker .hint { position: absolute; inset: 0; display: grid; place-content: center; text-align: center; pointer-events: none;
  opacity: .9; text-shadow: 0 0 3px #000, 0 0 3px #000, 0 0 3px #000; color: #fff; white-space: pre-line; }
`;

/** From blue over orange to yellow, as FireEdit Regions Preview draws scores. */
function colour(score) {
  const stops = [[58, 96, 170], [214, 98, 58], [255, 222, 70]];
  const s = Math.min(Math.max(score, 0), 1) * 2;
  const [a, b, t] = s < 1 ? [stops[0], stops[1], s] : [stops[1], stops[2], s - 1];
  return `rgb(${a.map((v, i) => Math.round(v + (b[i] - v) * t)).join(",")})`;
}

function element(name, attributes = {}, parent = null, space = SVG) {
  const made = space ? document.createElementNS(space, name) : document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  parent?.append(made);
  return made;
}

class Picker {
  constructor(node, text) {
    this.node = node;
    this.text = text; // the STRING widget
    this.found = { size: null, boxes: [], scores: [], labels: [] };
    this.meant = null; // scores by the language model, in the order of found.boxes
    this.url = null;
    this.picture = ""; // the fingerprint of what is shown, once it is known
    this.looking = null; // the server's answer to what it is, while it is awaited
    this.drag = null;
    this.over = null; // number of the entry under the pointer
    // "widget-expands" is the Nodes 2.0 renderer's own word for a widget that fills the node
    this.root = element("div", { class: "fireedit-picker widget-expands" }, null, null);
    const bar = element("div", { class: "bar" }, this.root, null);
    this.mode = element("select", { title: "Who decides which region is edited", "aria-label": "mode" }, bar, null);
    for (const [value, label] of Object.entries(MODES)) this.mode.append(new Option(label, value));
    this.clear = element("button", { type: "button", title: "Unpick everything and remove drawn boxes" }, bar, null);
    this.clear.textContent = "Clear";
    this.stage = element("div", { class: "stage" }, this.root, null);
    this.svg = element("svg", { preserveAspectRatio: "xMidYMid meet" }, this.stage);
    this.hint = element("div", { class: "hint" }, this.stage, null);
    this.mode.addEventListener("change", () => this.choose(this.mode.value));
    this.clear.addEventListener("click", () => this.store({ ...parse(""), mode: this.mode.value }));
    for (const kind of ["pointerdown", "pointermove", "pointerup", "pointercancel", "pointerleave", "dblclick", "focusin", "focusout"])
      this.svg.addEventListener(kind, (event) => this[kind](event));
    new ResizeObserver(() => { if (this.unit() !== this.drawn) this.render(); }).observe(this.stage); // a larger node has room for more names
    // on the root and stopped there: Delete would remove the node, Ctrl+A select the graph
    this.root.addEventListener("keydown", (event) => this.keydown(event));
    this.root.addEventListener("wheel", (event) => event.stopPropagation());
    this.render();
  }

  /** What is written; null while it is no selection. */
  get written() { return parse(this.text.value); }

  /** What counts on the picture that is shown, by the numbers of its regions: on another than it was made on only the mode does. The text
   * keeps the rest, for its picture. */
  get state() {
    const written = this.written ?? parse("");
    if (this.elsewhere(written)) return { ...parse(""), mode: written.mode };
    return this.found.size ? among(written, this.found.boxes) : written;
  }

  elsewhere(written) { return !!written.picture && (!!this.looking || !samePicture(written.picture, this.picture)); }

  /** The text of a state, which belongs to the picture that is shown, with the places of the regions that it has numbers of. One that is
   * no selection yet is left to who types it. */
  put(state) {
    if (this.looking || !this.written) return;
    const places = numbersOf(state).map((k) => [k, this.found.boxes[k]?.map((v) => Math.round(v * 10) / 10) ?? state.found[k]]);
    const found = Object.fromEntries(places.filter(([, box]) => box));
    this.text.value = write({ ...state, found, picture: this.picture || state.picture });
  }

  /** Change the state; the text is what is saved, queued and undone. */
  change(edit) {
    if (this.looking) { // whose picture the text is of is not known yet
      const { url } = this;
      this.looking.then(() => { if (url === this.url) this.change(edit); });
      return;
    }
    const state = this.state;
    edit(state);
    this.put(state);
    this.changed();
  }

  /** The mode alone: what was picked stays as it is written, on whatever picture. */
  choose(mode) {
    if (this.written) this.store({ ...this.written, mode });
    else this.render();
  }

  store(state) {
    this.text.value = write(state);
    this.changed();
  }

  changed() {
    this.text.callback?.(this.text.value);
    this.render();
    this.node.graph?.setDirtyCanvas(true, true);
    app.extensionManager?.workflow?.activeWorkflow?.changeTracker?.checkState?.();
  }

  /** What the node found in its last run. */
  executed(output) {
    if (!output?.fireedit_regions) return;
    this.found = JSON.parse(output.fireedit_regions[0]);
    this.meant = null;
    // a reloaded workflow shows them at once, as long as it is about the same picture
    Object.assign(this.node.properties, { fireedit_regions: output.fireedit_regions[0], fireedit_source: upstreamPicture(this.node) });
    this.show(output.fireedit_picture?.[0]);
    this.picture = this.found.picture ?? "";
    this.looking = null;
    this.render();
  }

  /** What the language model made of regions; `boxes` are matched to ours by their place. */
  understood(boxes, scores) {
    const near = (a, b) => a.every((v, i) => Math.abs(v - b[i]) < 1);
    const match = this.entries().map((e) => scores[boxes.findIndex((b) => near(b, e.box))]);
    if (!match.some((s) => s !== undefined)) return;
    this.meant = match;
    this.render();
  }

  /** Another picture was chosen in front of the node: it is shown, and the regions of the one before are not. */
  async looked() {
    await this.arrived();
    const now = upstreamPicture(this.node), { fireedit_source: source } = this.node.properties;
    if (!now || now === this.seen) return;
    this.seen = now;
    if (source && source !== now) {
      this.found = { size: null, boxes: [], scores: [], labels: [] };
      this.natural = this.meant = null;
    } else if (source && this.node.properties.fireedit_regions) this.found = JSON.parse(this.node.properties.fireedit_regions); // back again
    this.show();
    this.render();
  }

  /** Until the server has the picture in front of the node: that of a template just opened may be on its way. */
  arrived() { return provide(origin(this.node)).catch(() => null); }

  show(reference) {
    if (reference) this.url = api.apiURL(`/view?${new URLSearchParams(reference)}&rand=${Math.random()}`);
    else this.url = upstreamPicture(this.node) ?? this.url;
    if (!reference) this.recognise();
  }

  /** Find out which picture is shown: by the last run if it was this one, else the server looks at the file. */
  async recognise() {
    const { fireedit_source: source } = this.node.properties ?? {}, file = upstreamFile(this.node);
    const known = this.found.picture && (!source || source === this.url);
    this.picture = known ? this.found.picture : "";
    const looking = this.looking = known || !file ? null : fingerprintOf(file);
    const picture = await looking;
    if (!looking || looking !== this.looking) return; // another picture came, or a run was faster
    this.picture = picture;
    this.looking = null;
    this.render();
  }

  size() {
    if (this.found.size) return [this.found.size[1], this.found.size[0]];
    return this.natural ?? [512, 512];
  }

  /** Everything that can be picked: found regions first, under their numbers, then drawn boxes. What was moved has left its mask. */
  entries() {
    const state = this.state;
    const found = this.found.boxes.map((box, i) => ({
      key: i, own: false, box: state.moved[i] ?? box, name: state.names[i] ?? this.found.labels[i] ?? "", score: this.found.scores[i],
      picked: state.picked.includes(i), outline: state.moved[i] ? "" : this.found.outlines?.[i] ?? "",
    }));
    const own = state.boxes.map((b, i) => ({ key: i, own: true, box: b.box, name: b.name ?? "", score: 1, picked: true, outline: "" }));
    return [...found, ...own];
  }

  /** Picture pixels of half a pixel of the node: lines and letters have one width, however large the picture is. */
  unit() {
    const [width, height] = this.size(), { clientWidth: wide, clientHeight: high } = this.stage;
    return wide && high ? Math.max(width / wide, height / high) * 2 : Math.max(width, height) / 200;
  }

  render() {
    const state = this.state, [width, height] = this.size(), focused = document.activeElement?.dataset?.entry;
    this.mode.value = state.mode;
    this.svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
    this.svg.replaceChildren();
    if (this.url) {
      const image = element("image", { href: this.url, width, height, preserveAspectRatio: "none" }, this.svg);
      if (!this.found.size && !this.natural) {
        const probe = new Image();
        probe.onload = () => { this.natural = [probe.naturalWidth, probe.naturalHeight]; this.render(); };
        probe.onerror = () => { this.seen = null; }; // still on its way to the server
        probe.src = this.url;
      }
      image.style.pointerEvents = "none";
    }
    const line = this.drawn = this.unit(), entries = this.entries();
    entries.forEach((entry, index) => this.draw(entry, index, line, state));
    this.name(entries, line);
    this.tip = element("g", { class: "tip" }, this.svg);
    this.hover(this.over);
    if (this.drag?.kind === "draw" && this.drag.box) {
      const [x, y, x2, y2] = this.drag.box;
      element("rect", { x, y, width: x2 - x, height: y2 - y, fill: "#fff3", stroke: "#fff", "stroke-width": line }, this.svg);
    }
    this.hint.textContent = this.said(state, entries);
    if (focused !== undefined) this.svg.querySelector(`[data-entry="${focused}"]`)?.focus({ preventScroll: true });
  }

  /** What has to be known before one picks. */
  said(state, entries) {
    const written = this.written;
    if (!written) return "The text is no selection:\nmend it, or Clear, before you pick here.";
    if (this.looking) return "Looking at the picture ...";
    if (this.elsewhere(written)) return "Picked on another picture:\nit does not count here.";
    if (state.missing?.length) return `Picked as region ${state.missing.join(", ")}:\nnot among these, it does not count here.`;
    return this.url || entries.length ? "" : "Queue once to see the picture and its regions.\nBoxes can be drawn before.";
  }

  draw(entry, index, line, state) {
    const [x, y, x2, y2] = entry.box, sure = this.meant?.[index];
    const passive = state.mode !== "auto" && !entry.picked;
    const tint = entry.own ? "#5fd35f" : colour(sure ?? entry.score);
    const score = entry.own || entry.score === undefined ? "" : `, ${entry.score.toFixed(2)}`;
    const title = `${entry.own ? `drawn ${entry.key}` : `region ${entry.key}`}${entry.name ? `, ${entry.name}` : ""}${score}`;
    const group = element("g", {
      role: "checkbox", "aria-checked": entry.picked, "aria-label": title, tabindex: 0, "data-entry": index, opacity: passive ? 0.45 : 1,
    }, this.svg);
    const box = { x, y, width: x2 - x, height: y2 - y };
    element("rect", { ...box, fill: entry.picked && !entry.outline ? tint : "transparent", "fill-opacity": 0.25 }, group);
    if (entry.outline) {
      const shape = { d: entry.outline, "fill-rule": "evenodd", "stroke-linejoin": "round" };
      element("path", { ...shape, fill: "none", stroke: "#000", "stroke-width": line * 1.6 }, group);
      element("path", { ...shape, class: "mask", fill: tint, "fill-opacity": entry.picked ? 0.5 : 0.2, stroke: tint, "stroke-width": line * 0.7 }, group);
    }
    // where a mask shows the thing, its box steps back
    const weight = entry.outline ? 0.4 : 1;
    element("rect", { ...box, fill: "none", stroke: "#000", "stroke-width": line * 2 * weight, opacity: weight }, group);
    element("rect", { ...box, class: "edge", fill: "none", stroke: tint, "stroke-width": line * weight * (entry.picked ? 1.4 : 0.8), opacity: entry.outline ? 0.7 : 1 }, group);
    for (const [hx, hy] of [[0, 0], [1, 0], [0, 1], [1, 1]])
      element("circle", {
        cx: hx ? x2 : x, cy: hy ? y2 : y, r: Math.min(line * 2.2, (x2 - x) / 6, (y2 - y) / 6), fill: tint, stroke: "#000", "stroke-width": line * 0.5, "data-corner": `${hx}${hy}`,
        style: `cursor: ${hx === hy ? "nwse" : "nesw"}-resize`,
      }, group);
  }

  /** Number, name and score of an entry, from the longest text to the shortest. */
  words(entry, index) {
    const sure = this.meant?.[index], number = entry.own ? "+" : `${entry.key}`, name = entry.name === UNNAMED ? "" : entry.name;
    const score = sure !== undefined ? `${Math.round(100 * sure)} %` : entry.own ? "" : entry.score?.toFixed(2) ?? "";
    const short = sure === undefined ? number : `${number} ${score}`;
    return [...new Set([[number, name, score], [number, name], [short]].map((parts) => parts.filter((part) => part !== "").join(" ")))];
  }

  /** Names where there is room: none lies on another, and a crowd has numbers; what has none shows it under the pointer. */
  name(entries, line) {
    const [width, height] = this.size(), high = line * 7, taken = [], names = element("g", { class: "names" }, this.svg);
    const area = ({ box: [x, y, x2, y2] }) => (x2 - x) * (y2 - y);
    const order = entries.map((_, i) => i).sort((a, b) => entries[b].picked - entries[a].picked || area(entries[b]) - area(entries[a]));
    const crowd = entries.length > FEW;
    for (const index of order) {
      const entry = entries[index], [x, y, x2, y2] = entry.box;
      const found = this.words(entry, index).flatMap((words) => {
        const wide = wideness(words) * line * 6.5 + line * 2;
        if (words.includes(" ") && wide > Math.max(crowd ? x2 - x : width, 0)) return [];
        const left = Math.max(Math.min(x, width - wide), 0);
        return [y, y2 - high].map((top) => ({ words, x: left, y: Math.max(Math.min(top, height - high), 0), x2: left + wide, y2: Math.max(Math.min(top, height - high), 0) + high }));
      }).find((place) => !taken.some((other) => place.x < other.x2 && other.x < place.x2 && place.y < other.y2 && other.y < place.y2));
      if (!found) continue;
      taken.push(found);
      element("text", {
        x: found.x + line, y: found.y + line * 5.7, "font-size": line * 6.5, fill: "#fff", stroke: "#000", "stroke-width": line * 1.2, "paint-order": "stroke",
        "data-name": index,
      }, names).textContent = found.words;
    }
  }

  /** Show which entry is under the pointer or has the focus: its handles, and its whole name above all others. */
  hover(index) {
    this.over = index;
    for (const group of this.svg.querySelectorAll("g[role]")) group.classList.toggle("over", +group.dataset.entry === index);
    this.tip.replaceChildren();
    for (const name of this.svg.querySelectorAll("[data-name]")) name.removeAttribute("visibility");
    const focused = document.activeElement?.dataset?.entry, shown = index ?? (this.svg.contains(document.activeElement) && focused !== undefined ? +focused : null);
    const entry = shown === null ? null : this.entries()[shown];
    if (!entry || this.drag) return;
    const words = this.words(entry, shown)[0], name = this.svg.querySelector(`[data-name="${shown}"]`);
    if (name?.textContent === words) return; // it stands there already
    name?.setAttribute("visibility", "hidden");
    const line = this.unit(), [width] = this.size(), wide = wideness(words) * line * 6.5 + line * 4, high = line * 8;
    const x = Math.max(Math.min(entry.box[0], width - wide), 0), y = Math.max(entry.box[1] - high, 0);
    element("rect", { x, y, width: wide, height: high, rx: line, fill: "#000c" }, this.tip);
    element("text", { x: x + line * 2, y: y + line * 6.2, "font-size": line * 6.5, fill: "#fff" }, this.tip).textContent = words;
  }

  /** Number of the entry at a place of the picture: by its mask where it has one, and of several the smallest; null for none. */
  hit([x, y]) {
    const point = new DOMPoint(x, y);
    let best = null, least = Infinity;
    this.entries().forEach(({ box, outline }, index) => {
      if (x < box[0] || x > box[2] || y < box[1] || y > box[3]) return;
      const inside = outline && this.svg.querySelector(`[data-entry="${index}"] .mask`)?.isPointInFill(point);
      // a box around a mask that lies elsewhere comes after all masks
      const rank = (box[2] - box[0]) * (box[3] - box[1]) + (outline && !inside ? 1e12 : 0);
      if (rank < least) [best, least] = [index, rank];
    });
    return best;
  }

  /** Picture coordinates of a pointer. */
  at(event) {
    const matrix = this.svg.getScreenCTM();
    const point = new DOMPoint(event.clientX, event.clientY).matrixTransform(matrix.inverse());
    const [width, height] = this.size();
    return [Math.min(Math.max(point.x, 0), width), Math.min(Math.max(point.y, 0), height)];
  }

  pointerdown(event) {
    if (event.button !== 0) return;
    event.stopPropagation();
    event.preventDefault(); // no text selection; focus is given below
    this.svg.setPointerCapture(event.pointerId);
    const start = this.at(event), corner = event.target.dataset?.corner;
    const index = corner === undefined ? this.hit(start) : +event.target.closest("[data-entry]").dataset.entry;
    this.drag = corner === undefined ? { kind: "draw", index, start } : { kind: "resize", index, corner, start };
    this.svg.querySelector(`[data-entry="${index}"]`)?.focus({ preventScroll: true });
  }

  pointermove(event) {
    if (!this.drag) {
      const index = event.pointerType === "touch" ? null : event.target.dataset?.corner ? this.over : this.hit(this.at(event));
      if (index !== this.over) this.hover(index);
      return;
    }
    event.stopPropagation();
    const [x, y] = this.at(event);
    if (this.drag.kind === "resize") {
      const entry = this.entries()[this.drag.index], [right, bottom] = [...this.drag.corner].map(Number);
      const box = [...(this.drag.origin ??= [...entry.box])];
      box[right ? 2 : 0] = x;
      box[bottom ? 3 : 1] = y;
      this.drag.box = sorted(box);
      if (big(this.drag.box)) this.place(entry, this.drag.box, false);
    } else {
      const box = sorted([...this.drag.start, x, y]);
      this.drag.box = big(box) ? box : null;
      this.render();
    }
  }

  pointerup(event) {
    if (!this.drag) return;
    event.stopPropagation();
    const { kind, index, box } = this.drag;
    this.drag = null;
    if (kind === "draw" && box) this.change((s) => s.boxes.push({ box: box.map(Math.round) }));
    else if (kind === "draw" && index !== null) this.clicked(index, event.timeStamp);
    else if (kind === "resize" && box && big(box)) this.place(this.entries()[index], box, true);
    else this.render();
  }

  pointerleave() { if (!this.drag) this.hover(null); }

  focusin() { this.hover(this.over); }

  focusout() { this.hover(this.over); }

  pointercancel() {
    this.drag = null;
    this.render();
  }

  /** A second click soon after the first takes it back and asks for a name. The browser's own dblclick is lost when the first draws anew. */
  clicked(index, time) {
    const twice = this.last?.index === index && time - this.last.time < 400;
    this.last = twice ? null : { index, time };
    this.toggle(this.entries()[index]);
    if (twice) this.rename(index);
  }

  dblclick(event) {
    event.stopPropagation(); // the canvas would open its search
  }

  toggle(entry) {
    if (entry.own) return; // a drawn box counts while it is there
    this.change((s) => { s.picked = entry.picked ? s.picked.filter((i) => i !== entry.key) : [...s.picked, entry.key]; });
  }

  /** Give a region another box; while it is dragged the text is written too, so that what is seen is what is queued. */
  place(entry, box, final) {
    const rounded = box.map(Math.round), put = (s) => { if (entry.own) s.boxes[entry.key].box = rounded; else s.moved[entry.key] = rounded; };
    if (final) return this.change(put);
    const state = this.state;
    put(state);
    this.put(state);
    this.render();
  }

  remove(entry) {
    this.change((s) => {
      if (entry.own) s.boxes.splice(entry.key, 1);
      else delete s.moved[entry.key], delete s.names[entry.key], (s.picked = s.picked.filter((i) => i !== entry.key));
    });
  }

  rename(index) {
    const entry = this.entries()[index], place = this.svg.querySelector(`[data-entry="${index}"]`).getBoundingClientRect();
    const stage = this.stage.getBoundingClientRect(), scale = stage.width / this.stage.offsetWidth || 1;
    const field = element("input", { class: "name", "aria-label": "name of the region" }, this.stage, null);
    field.value = entry.name;
    field.style.left = `${(place.left - stage.left) / scale}px`;
    field.style.top = `${(place.top - stage.top) / scale}px`;
    let open = true;
    const close = (keep) => {
      if (!open) return; // taking the field away blurs it, which would close it again
      open = false;
      const name = field.value.trim();
      field.remove();
      if (!keep) return;
      this.change((s) => {
        if (entry.own) s.boxes[entry.key] = name ? { ...s.boxes[entry.key], name } : { box: s.boxes[entry.key].box };
        else if (name && name !== this.found.labels[entry.key]) s.names[entry.key] = name;
        else delete s.names[entry.key];
      });
    };
    field.addEventListener("keydown", (event) => {
      event.stopPropagation();
      if (event.key === "Enter" || event.key === "Escape") close(event.key === "Enter");
    });
    field.addEventListener("blur", () => close(true));
    field.focus();
    field.select();
  }

  keydown(event) {
    const index = document.activeElement?.dataset?.entry, entry = this.entries()[index];
    if (!entry) return;
    const step = event.shiftKey ? 10 : 1;
    const moves = { ArrowLeft: [-step, 0], ArrowRight: [step, 0], ArrowUp: [0, -step], ArrowDown: [0, step] };
    if (event.key === " " || event.key === "Enter") this.toggle(entry);
    else if (event.key === "Delete" || event.key === "Backspace") this.remove(entry);
    else if (event.key === "n" || event.key === "F2") this.rename(+index);
    else if (moves[event.key]) this.place(entry, this.shifted(entry.box, moves[event.key]), true);
    else return;
    event.stopPropagation();
    event.preventDefault();
  }

  shifted([x, y, x2, y2], [dx, dy]) {
    const [width, height] = this.size();
    dx = Math.min(Math.max(dx, -x), width - x2);
    dy = Math.min(Math.max(dy, -y), height - y2);
    return [x + dx, y + dy, x2 + dx, y2 + dy];
  }
}

/** About how wide a text is, in heights of its letters; signs of Chinese, Japanese and Korean are squares. */
const wideness = (text) => [...text].reduce((sum, c) => sum + (c > "\u2e7f" ? 1 : /[A-Zmw%@]/.test(c) ? 0.8 : /[ijl.,]/.test(c) ? 0.32 : 0.58), 0);
const sorted = ([a, b, c, d]) => [Math.min(a, c), Math.min(b, d), Math.max(a, c), Math.max(b, d)];
const big = ([x, y, x2, y2]) => x2 - x >= LEAST && y2 - y >= LEAST;

function origin(node) {
  if (!node.graph) return null; // on its way into a subgraph
  const slot = node.inputs?.findIndex((input) => input.name === "image") ?? -1;
  return slot >= 0 ? node.getInputNode?.(slot) : null;
}

/** The file of a Load Image in front of the node, as the server is asked for it. */
function upstreamFile(node) {
  const value = origin(node)?.widgets?.find((widget) => widget.name === "image")?.value;
  const match = typeof value === "string" && value.match(/^(?:(.*)\/)?([^/]+?)(?: \[(\w+)\])?$/);
  return match ? new URLSearchParams({ filename: match[2], subfolder: match[1] ?? "", type: match[3] ?? "input" }) : null;
}

/** The picture that it shows, before anything has run. */
function upstreamPicture(node) {
  const file = upstreamFile(node);
  return file ? api.apiURL(`/view?${file}`) : origin(node)?.imgs?.[0]?.src ?? null;
}

/** By what the server knows the picture of a file; "" where it cannot tell. */
function fingerprintOf(file) {
  const answer = api.fetchApi(`/fireedit/fingerprint?${file}`).then((reply) => (reply.ok ? reply.json() : {}));
  return answer.then(({ picture }) => picture ?? "").catch(() => "");
}

/** Every node of a graph and of its subgraphs. */
function* nodesOf(graph) {
  for (const node of graph?.nodes ?? graph?._nodes ?? []) {
    yield node;
    if (node.subgraph) yield* nodesOf(node.subgraph);
  }
}

app.registerExtension({
  name: "fireedit.region_select",

  setup() {
    element("style", {}, document.head, null).textContent = STYLE;
    api.addEventListener("executed", ({ detail }) => {
      const said = detail?.output?.fireedit_meant;
      if (!said) return;
      const { boxes, scores } = JSON.parse(said[0]);
      for (const node of nodesOf(app.graph)) node.fireeditPicker?.understood(boxes, scores);
    });
    // sent after every change of a graph: the file on a Load Image may be another one
    api.addEventListener("graphChanged", () => { for (const node of nodesOf(app.graph)) node.fireeditPicker?.looked(); });
  },

  nodeCreated(node) {
    if (node.comfyClass !== NODE && node.constructor?.comfyClass !== NODE) return;
    const text = node.widgets?.find((widget) => widget.name === "selection");
    if (!text) return;
    const picker = new Picker(node, text);
    node.fireeditPicker = picker;
    addElement(node, "picker", WIDGET, picker.root, {
      hideOnZoom: false, getMinHeight: () => 240, getValue: () => text.value, setValue: () => picker.render(),
    });
    const typed = text.callback;
    text.callback = function (...all) {
      typed?.apply(this, all);
      picker.render();
    };
    const executed = node.onExecuted;
    node.onExecuted = function (output) {
      executed?.apply(this, arguments);
      picker.executed(output);
    };
    const configured = node.onConfigure;
    node.onConfigure = function () {
      const result = configured?.apply(this, arguments);
      // the text was set without its callback; links and the pictures of other nodes come a moment later
      if (this.properties?.fireedit_regions) picker.found = JSON.parse(this.properties.fireedit_regions);
      setTimeout(async () => { await picker.arrived(); picker.show(); picker.render(); }, 100);
      return result;
    };
    const connected = node.onConnectionsChange;
    node.onConnectionsChange = function () {
      const result = connected?.apply(this, arguments);
      setTimeout(async () => { await picker.arrived(); picker.show(); picker.render(); }, 100);
      return result;
    };
    node.setSize?.([Math.max(node.size[0], 340), Math.max(node.size[1], 420)]);
  },
});
