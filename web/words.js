// SPDX-License-Identifier: GPL-3.0-or-later
// What our nodes say: a line while one works, and when it is done its outcome (`output.text`), which stays until it says something else.
// The front end would show the lines too; newer ones take them away when the run ends (1.58.1), and the older Nodes 2.0 renderer (1.32.9)
// never draws a widget that comes after a value was set. So the place for the words is there from the start, and empty takes no room.

import { app } from "../../scripts/app.js";
import { api } from "../../scripts/api.js";
import { addElement } from "./element_widget.js";

const LIVE = "$$node-text-preview"; // the front end's own widget for the lines
const HEIGHT = 48; // of two lines; more can be scrolled
const STYLE = `
.fireedit-words { box-sizing: border-box; width: 100%; max-height: ${HEIGHT}px; overflow-y: auto; padding: 2px 6px; white-space: pre-wrap;
  overflow-wrap: anywhere; user-select: text; font: 12px sans-serif; color: var(--input-text, #ddd); }
.fireedit-words:empty { display: none; }
`;

class Words {
  constructor(node) {
    this.node = node;
    this.root = document.createElement("div");
    this.root.className = "fireedit-words";
    this.root.addEventListener("pointerdown", (event) => event.stopPropagation()); // to mark and copy them
    const widget = addElement(node, "words", "FIREEDIT_WORDS", this.root, { hideInPanel: true });
    widget.serialize = false; // no value of the workflow
    // a height of its own, and no share in what room a node has left
    widget.computeSize = (width) => [width, this.root.textContent ? HEIGHT : 0];
    widget.computeLayoutSize = undefined;
  }

  show(text) {
    this.root.textContent = text;
    const live = this.node.widgets.find((w) => w.name === LIVE);
    if (live) this.node.removeWidget(live);
    this.node.graph?.setDirtyCanvas(true, true);
  }
}

const textOf = (output) => output?.text?.join("\n") ?? "";

app.registerExtension({
  name: "fireedit.words",

  setup() {
    const style = document.createElement("style");
    style.textContent = STYLE;
    document.head.append(style);
    api.addEventListener("progress_text", ({ detail }) => {
      const words = app.canvas.graph?.getNodeById(detail?.nodeId)?.fireeditWords;
      if (words) queueMicrotask(() => words.show(detail.text)); // the front end has made its own widget by then
    });
  },

  nodeCreated(node) {
    if (!String(node.comfyClass ?? node.constructor?.comfyClass ?? "").startsWith("FireEdit")) return;
    const words = new Words(node);
    node.fireeditWords = words;
    const executed = node.onExecuted;
    node.onExecuted = function (output) {
      executed?.apply(this, arguments);
      if (output) words.show(textOf(output));
    };
  },

  /** The outputs of a workflow that one comes back to. */
  onNodeOutputsUpdated(outputs) {
    for (const [id, output] of Object.entries(outputs ?? {}))
      if (textOf(output)) app.graph?.getNodeById(id)?.fireeditWords?.show(textOf(output));
  },
});
