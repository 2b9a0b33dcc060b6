// SPDX-License-Identifier: GPL-3.0-or-later
// An element of ours on a node, in both renderers.

import { app } from "../../scripts/app.js";

/**
 * `node.addDOMWidget`, for a node that may move into a subgraph.
 *
 * Nodes 2.0 keeps what it has drawn for a node's number. A node that is converted into a subgraph which is opened at once is made anew
 * under its old number: what is on the screen is then the element of the node that is gone, and its heir's takes that place here.
 */
export function addElement(node, name, type, root, options) {
  const widget = node.addDOMWidget(name, type, root, { serialize: false, ...options });
  const removed = node.onRemoved;
  node.onRemoved = function () {
    removed?.apply(this, arguments);
    const { id } = this; // the front end takes the number away
    setTimeout(() => {
      const heir = root.isConnected && app.canvas.graph?.getNodeById(id)?.widgets?.find((w) => w.name === name)?.element;
      if (heir && !heir.isConnected) root.replaceWith(heir);
    }, 50); // after the renderer has drawn
  };
  return widget;
}
