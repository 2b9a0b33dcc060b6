// SPDX-License-Identifier: GPL-3.0-or-later
// The slider of FireEdit Compare: two pictures of one size on top of each other, the upper one cut off at the pointer.

import { app } from "../../scripts/app.js";
import { api } from "../../scripts/api.js";
import { addElement } from "./element_widget.js";

const NODE = "FireEditCompare";
const STYLE = `
.fireedit-compare { position: relative; width: 100%; height: 100%; min-height: 200px; background: #1116; border-radius: 4px; overflow: hidden;
  touch-action: none; cursor: ew-resize; user-select: none; outline: none; }
.fireedit-compare img { position: absolute; inset: 0; width: 100%; height: 100%; object-fit: contain; pointer-events: none; }
.fireedit-compare img.after { clip-path: inset(0 0 0 var(--at)); }
.fireedit-compare .line { position: absolute; top: 0; bottom: 0; left: var(--at); width: 2px; margin-left: -1px; background: #fffc; pointer-events: none; }
.fireedit-compare .said { position: absolute; bottom: 4px; padding: 1px 6px; border-radius: 4px; background: #0008; color: #fff; font: 11px sans-serif; pointer-events: none; }
.fireedit-compare:focus-visible .line { background: #5fd35f; }
`;

class Slider {
  constructor() {
    this.root = document.createElement("div");
    this.root.className = "fireedit-compare widget-expands"; // the Nodes 2.0 renderer's own word for a widget that fills the node
    this.root.tabIndex = 0;
    for (const [name, value] of [["role", "slider"], ["aria-label", "before and after"], ["aria-valuemin", 0], ["aria-valuemax", 100]])
      this.root.setAttribute(name, value);
    this.root.innerHTML = '<img class="before" alt="before" hidden><img class="after" alt="after" hidden><div class="line"></div>'
      + '<div class="said" style="left: 4px">before</div><div class="said" style="right: 4px">after</div>';
    this.set(50);
    this.root.addEventListener("pointerdown", (event) => {
      if (event.button !== 0) return;
      event.stopPropagation();
      this.root.setPointerCapture(event.pointerId);
      this.follow(event);
    });
    this.root.addEventListener("pointermove", (event) => {
      if (this.root.hasPointerCapture(event.pointerId)) this.follow(event);
    });
    this.root.addEventListener("keydown", (event) => {
      const step = { ArrowLeft: -5, ArrowRight: 5, Home: -100, End: 100 }[event.key];
      if (step === undefined) return;
      event.stopPropagation();
      event.preventDefault();
      this.set(this.at + step);
    });
  }

  follow(event) {
    const box = this.root.getBoundingClientRect();
    this.set((100 * (event.clientX - box.left)) / box.width);
  }

  set(at) {
    this.at = Math.min(Math.max(at, 0), 100);
    this.root.style.setProperty("--at", `${this.at}%`);
    this.root.setAttribute("aria-valuenow", Math.round(this.at));
  }

  show(pair) {
    const images = this.root.querySelectorAll("img");
    pair.forEach((reference, i) => {
      images[i].src = api.apiURL(`/view?${new URLSearchParams(reference)}&rand=${Math.random()}`);
      images[i].hidden = false;
    });
  }
}

app.registerExtension({
  name: "fireedit.compare",

  setup() {
    const style = document.createElement("style");
    style.textContent = STYLE;
    document.head.append(style);
  },

  nodeCreated(node) {
    if (node.comfyClass !== NODE && node.constructor?.comfyClass !== NODE) return;
    const slider = new Slider();
    addElement(node, "slider", "FIREEDIT_COMPARE_SLIDER", slider.root, { hideOnZoom: false, getMinHeight: () => 220 });
    const executed = node.onExecuted;
    node.onExecuted = function (output) {
      executed?.apply(this, arguments);
      if (output?.fireedit_compare) slider.show(output.fireedit_compare);
    };
    node.setSize?.([Math.max(node.size[0], 320), Math.max(node.size[1], 380)]);
  },
});
