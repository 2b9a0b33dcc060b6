// SPDX-License-Identifier: GPL-3.0-or-later
// The pictures of our workflows. A workflow names its picture on Load Image like any other; where the server does not have it yet,
// it is uploaded from the pack when the workflow is opened, so that every template runs without a change. The same for nodes of the host.

import { app } from "../../scripts/app.js";
import { api } from "../../scripts/api.js";

const FOLDER = new URL("./examples/", import.meta.url);
const OURS = /^fireedit_\w+\.(png|jpg)$/;
const uploads = new Map(); // name -> promise of the upload, so that two nodes do not send one file twice

async function upload(name) {
  const answer = await fetch(new URL(name, FOLDER));
  if (!answer.ok) throw new Error(`FireEdit: the pack has no picture ${name}`);
  const body = new FormData();
  body.append("image", await answer.blob(), name);
  const sent = await api.fetchApi("/upload/image", { method: "POST", body });
  if (sent.status !== 200) throw new Error(`FireEdit: ${name} could not be uploaded (${sent.status})`);
  return (await sent.json()).name;
}

/** Bring the picture that a Load Image node names to the server, if it is one of ours and missing there. */
export async function provide(node) {
  const widget = node?.widgets?.find((w) => w.name === "image");
  const name = widget?.value, known = widget?.options?.values;
  if (typeof name !== "string" || !OURS.test(name) || !Array.isArray(known) || known.includes(name)) return;
  if (!uploads.has(name)) uploads.set(name, upload(name));
  const stored = await uploads.get(name);
  if (!known.includes(stored)) widget.options.values = [...known, stored]; // a new list, which the Nodes 2.0 renderer notices
  widget.value = stored;
  widget.callback?.(stored); // shows it on the node
  node.graph?.setDirtyCanvas(true, true);
}

const BATCH = "BatchImagesNode";

/** Newer hosts call ImageBatch deprecated, older ones have nothing else: our template has the one that the host likes best. */
function renewBatch(workflow) {
  if (!workflow.extra?.fireedit || !LiteGraph.registered_node_types[BATCH]) return;
  for (const node of workflow.nodes.filter((n) => n.type === "ImageBatch")) {
    node.type = node.properties["Node name for S&R"] = BATCH;
    node.inputs = node.inputs.map((input, i) => ({ ...input, name: `images.image${i}`, label: `image${i}` }));
  }
}

app.registerExtension({
  name: "fireedit.examples",

  beforeConfigureGraph: renewBatch,

  async afterConfigureGraph() {
    const nodes = app.graph.nodes.filter((node) => node.comfyClass === "LoadImage" || node.type === "LoadImage");
    await Promise.all(nodes.map((node) => provide(node).catch((error) => console.warn(error.message))));
  },
});
