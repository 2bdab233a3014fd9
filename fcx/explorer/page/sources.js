// Where faces and numbers come from: a page that holds them, or a kernel that answers; and how their bytes are read.

/** A page that holds header, frames and pictures: `store` is what `fcx.explorer.static.payload` writes. */
export function packed(store) {
  const inflate = async (text) => {
    const stream = new Blob([bytes(text)]).stream().pipeThrough(new DecompressionStream("gzip"));
    return new Response(stream).arrayBuffer();
  };
  return {
    header: store.header,
    sprite: async () => new Blob([bytes(store.sprite)], { type: "image/webp" }),
    frame: async (face, method) => ({
      data: await inflate(store.frames[method][face]),
      pictures: store.pictures[face].map((text) => new Blob([bytes(text)], { type: "image/webp" })),
    }),
  };
}

/** A kernel that answers messages; each answer names the question. */
function kernel(model) {
  const waiting = new Map();
  let last = 0;
  const ask = (kind, content) =>
    new Promise((resolve, reject) => {
      waiting.set(++last, { resolve, reject });
      model.send({ kind, number: last, ...content });
    });
  const heard = (message, buffers) => {
    const asked = waiting.get(message.number);
    waiting.delete(message.number);
    if (!asked) return;
    if (message.error) asked.reject(new Error(message.error));
    else asked.resolve({ ...message, buffers: buffers.map((b) => new Uint8Array(b.buffer, b.byteOffset, b.byteLength)) });
  };
  model.on("msg:custom", heard);
  const webp = (buffer) => new Blob([buffer], { type: "image/webp" });
  return {
    header: { ...JSON.parse(model.get("header")), view: model.get("view") },
    sprite: async () => webp((await ask("sprite", {})).buffers[0]),
    frame: async (face, method) => {
      const { buffers } = await ask("frame", { face, method });
      return { data: buffers[0].slice().buffer, pictures: buffers.slice(1).map(webp) };
    },
    region: (content) => ask("region", content),
    wear: async (content) => {
      const { buffers, ...message } = await ask("wear", content);
      return { ...message, data: buffers[0].slice().buffer, grey: buffers[1] };
    },
    keep: (view) => {
      model.set("view", view);
      model.save_changes();
    },
    follow: (change) => model.on("change:view", () => change(model.get("view"))),
    leave: () => model.off("msg:custom", heard),
  };
}

const bytes = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
const TYPES = { "<f4": Float32Array, u1: Uint8Array, i1: Int8Array };

/** The arrays of a frame by name, of `models` x `conditions` where these are fewer than the header's. */
function arraysOf(header, data, models = header.models.length, conditions = header.conditions.length) {
  const [y, x] = header.size;
  const sizes = {
    model: models, condition: conditions, target: header.targets.length, y, x,
    region: header.regions.length, overlay: header.overlays.length,
  };
  const arrays = {};
  let start = 0;
  for (const [name, kind, dims] of header.parts) {
    const count = dims.reduce((product, dim) => product * sizes[dim], 1);
    const end = start + count * TYPES[kind].BYTES_PER_ELEMENT;
    arrays[name] = new TYPES[kind](data.slice(start, end));
    start = end;
  }
  return arrays;
}
