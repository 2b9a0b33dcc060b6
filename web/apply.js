// SPDX-License-Identifier: GPL-3.0-or-later
// The curve on FireEdit Apply: how strongly TATI and HVCA act at each step of the sampler that the MODEL goes to. Where the steps lie
// in the noise schedule is the host's own computation (nodes/host/schedule.py), so it is right for every scheduler.

import { app } from "../../scripts/app.js";
import { api } from "../../scripts/api.js";
import { addElement } from "./element_widget.js";

const NODE = "FireEditApply";
const MOST = 2; // the largest strength of the widgets
const COLOURS = { tati: "#ffde46", hvca: "#5a9bff" };
const STYLE = `
.fireedit-schedule { width: 100%; height: 84px; box-sizing: border-box; display: flex; flex-direction: column;
  background: #1116; border-radius: 4px; padding: 4px 6px; font: 11px sans-serif; color: var(--input-text, #ddd); }
.fireedit-schedule svg { flex: none; height: 58px; width: 100%; }
.fireedit-schedule .said { flex: none; white-space: nowrap; overflow: hidden; text-overflow: ellipsis; opacity: .8; }
`;

const value = (node, name) => node?.widgets?.find((w) => w.name === name)?.value;
const linked = (node, name) => {
  const slot = node.inputs?.findIndex((input) => input.name === name) ?? -1;
  return slot < 0 ? null : node.getInputNode(slot);
};

/** The first node behind this one that says how many steps are taken and how they are spread; null without one. */
function samplerBehind(node) {
  const seen = new Set(), queue = [node];
  while (queue.length) {
    const at = queue.shift();
    for (const slot of (at.outputs ?? []).keys())
      for (const next of at.getOutputNodes(slot) ?? []) {
        if (seen.has(next.id)) continue;
        seen.add(next.id);
        if (value(next, "steps") !== undefined && value(next, "scheduler") !== undefined) return next;
        queue.push(next);
      }
  }
  return null;
}

class Schedule {
  constructor(node) {
    this.node = node;
    this.root = document.createElement("div");
    this.root.className = "fireedit-schedule";
    this.root.innerHTML = '<svg preserveAspectRatio="none" role="img"></svg><div class="said"></div>';
    this.asked = "";
  }

  /** Ask for the steps if anything about them changed, then draw. */
  async refresh() {
    const { node } = this, sampler = samplerBehind(node);
    const question = new URLSearchParams({
      bundle: value(linked(node, "fireedit"), "bundle") ?? "", sampler_name: value(sampler, "sampler_name") ?? "euler",
      scheduler: value(sampler, "scheduler") ?? "simple", steps: value(sampler, "steps") ?? 20, denoise: value(sampler, "denoise") ?? 1,
      start_percent: value(node, "start_percent"), end_percent: value(node, "end_percent"),
    }).toString();
    const strengths = { tati: value(node, "tati_strength"), hvca: value(node, "hvca_strength") };
    const key = `${question}&${strengths.tati}&${strengths.hvca}`;
    if (key === this.asked) return;
    this.asked = key;
    const answer = await api.fetchApi(`/fireedit/schedule?${question}`).catch(() => null);
    if (key !== this.asked) return; // a newer question is on its way
    const steps = answer?.ok ? await answer.json() : [];
    this.draw(steps, strengths, value(sampler, "scheduler") ?? "simple", sampler !== null);
  }

  draw(steps, strengths, scheduler, connected) {
    const svg = this.root.querySelector("svg"), count = steps.length;
    svg.setAttribute("viewBox", `0 0 ${Math.max(count, 1)} ${MOST}`);
    svg.replaceChildren();
    for (const [name, strength] of Object.entries(strengths).reverse()) {
      const bars = steps.map(({ active }, i) => (active ? `M${i} ${MOST}V${MOST - strength}h1V${MOST}z` : "")).join("");
      const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
      for (const [key, text] of Object.entries({
        d: bars, class: name, fill: COLOURS[name], "fill-opacity": 0.3, stroke: COLOURS[name], "stroke-width": 1, "vector-effect": "non-scaling-stroke",
      })) path.setAttribute(key, text);
      svg.append(path);
    }
    const active = steps.filter((s) => s.active).length;
    const said = count
      ? `TATI ${strengths.tati.toFixed(2)}, HVCA ${strengths.hvca.toFixed(2)} in ${active} of ${count} steps (${scheduler}${connected ? "" : ", no sampler yet"})`
      : "the schedule is not known before a bundle is connected";
    this.root.querySelector(".said").textContent = said;
    svg.setAttribute("aria-label", said);
    this.root.title = `${said}\nyellow: TATI, blue: HVCA; left is the first step`;
  }
}

const schedules = new Set();
const refreshAll = () => schedules.forEach((schedule) => schedule.refresh());

app.registerExtension({
  name: "fireedit.apply",

  setup() {
    const style = document.createElement("style");
    style.textContent = STYLE;
    document.head.append(style);
    api.addEventListener("graphChanged", refreshAll); // the sampler's widgets count too
  },

  afterConfigureGraph: refreshAll,

  nodeCreated(node) {
    if (node.comfyClass !== NODE && node.constructor?.comfyClass !== NODE) return;
    const schedule = new Schedule(node);
    addElement(node, "schedule", "FIREEDIT_SCHEDULE", schedule.root, { hideOnZoom: true, getMinHeight: () => 92 });
    schedules.add(schedule);
    const later = () => queueMicrotask(() => schedule.refresh());
    for (const widget of node.widgets) {
      const callback = widget.callback;
      widget.callback = function () { callback?.apply(this, arguments); later(); };
    }
    const connected = node.onConnectionsChange, removed = node.onRemoved;
    node.onConnectionsChange = function () { connected?.apply(this, arguments); later(); };
    node.onRemoved = function () { removed?.apply(this, arguments); schedules.delete(schedule); };
    later();
  },
});
