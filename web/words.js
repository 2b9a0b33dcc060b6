// SPDX-License-Identifier: GPL-3.0-or-later
// What our nodes say: a line while one works, and when it is done its outcome (`output.text`), which stays until it says something else.
// The front end would show the lines too; newer ones take them away when the run ends (1.58.1), and the older Nodes 2.0 renderer (1.32.9)
// never draws a widget that comes after a value was set. So the place for the words is there from the start, and empty takes no room.

import { app } from "../../scripts/app.js";
import { api } from "../../scripts/api.js";
import { addElement } from "./element_widget.js";

const LIVE = "$$node-text-preview"; // the front end's own widget for the lines
const LEAST = 46; // of three lines: a node in the classic renderer has room for these; more are shown where it has more, else scrolled
const MOST = 130; // of nine: a node in Nodes 2.0 is as high as what is on it, up to these
const STYLE = `
.fireedit-words { box-sizing: border-box; width: 100%; max-height: 100%; overflow-y: auto; padding: 2px 6px; font: 12px sans-serif;
  color: var(--input-text, #ddd); }
.fireedit-words[hidden] { display: none; }
.fireedit-words.natural { max-height: ${MOST}px; }
.fireedit-words > div { white-space: pre-wrap; overflow-wrap: anywhere; user-select: text; }
`;

class Words {
  constructor(node) {
    this.node = node;
    this.root = document.createElement("div");
    this.root.className = "fireedit-words";
    this.root.hidden = true;
    this.text = this.root.appendChild(document.createElement("div")); // as high as its lines, whatever its frame is given
    this.height = LEAST;
    this.root.addEventListener("pointerdown", (event) => event.stopPropagation()); // to mark and copy them
    const widget = addElement(node, "words", "FIREEDIT_WORDS", this.root, { hideInPanel: true });
    widget.serialize = false; // no value of the workflow
    // no share in what room a node has left beyond that of its own lines: Nodes 2.0 gives one to what has a layout, however high it may be
    const frame = () => 2 * (widget.margin ?? 10);
    const layout = () => {
      if (this.root.hidden) return { minHeight: 0, maxHeight: 0, minWidth: 0 };
      return { minHeight: Math.min(LEAST, this.height) + frame(), maxHeight: this.height + frame(), minWidth: 0 };
    };
    const size = (width) => [width, layout().minHeight];
    Object.defineProperty(widget, "computeLayoutSize", { get: () => (LiteGraph.vueNodesMode ? undefined : layout) });
    Object.defineProperty(widget, "computeSize", { get: () => (LiteGraph.vueNodesMode ? size : undefined) });
    new ResizeObserver(() => {
      if (!this.text.offsetHeight) return; // not on the screen
      this.height = this.text.offsetHeight + 4;
      this.root.classList.toggle("natural", Boolean(LiteGraph.vueNodesMode));
      this.node.graph?.setDirtyCanvas(true, true);
    }).observe(this.text);
  }

  show(text) {
    this.text.textContent = text;
    this.root.hidden = !text;
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
