// The explorer: faces, maps and regions by hand. One module for two homes: with a kernel behind it (`render`, which
// anywidget calls), and in a page that holds everything itself (`mount(root, packed(...))`).

const SVG = "http://www.w3.org/2000/svg";
const PANEL = 384; // pixels of a canvas
const KEPT = 48; // frames in memory
const THUMB_STEP = 60; // pixels from one thumbnail to the next
const STRENGTH = 0.6; // how fast a map becomes opaque: |value| to this power

export default { render: ({ model, el: root }) => mount(root, kernel(model)) };

// ---- where faces and numbers come from ---------------------------------------------------------------------------

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
      return { ...message, data: buffers[0].slice().buffer, picture: webp(buffers[1]) };
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

// ---- small things ------------------------------------------------------------------------------------------------

/** An element; what takes the focus keeps its keys from the notebook. */
function make(tag, attributes = {}, ...children) {
  const space = ["svg", "g", "path", "line", "rect", "circle", "text"].includes(tag);
  const element = space ? document.createElementNS(SVG, tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value != null) element.setAttribute(name, value);
  }
  if ("tabindex" in attributes || ["button", "select", "input", "summary"].includes(tag))
    element.setAttribute("data-lm-suppress-shortcuts", "true");
  element.append(...children.filter((child) => child != null));
  return element;
}

const missing = (value) => value == null || Number.isNaN(value);
const endless = (value) => (value < 0 ? "−∞" : "∞"); // log2 of a region without any attribution
const signed = (value) => missing(value) ? "–" : !Number.isFinite(value) ? endless(value)
  : (value.toFixed(2) === "0.00" || value.toFixed(2) === "-0.00" ? "" : value < 0 ? "−" : "+") + Math.abs(value).toFixed(2);
const percent = (value) => (missing(value) ? "–" : `${(100 * value).toFixed(1)} %`);
const brief = (value) => (missing(value) ? "–" : value === 0 ? "0" : value.toPrecision(2).replace("-", "−"));
const WRITE = { share: percent, enrichment: signed, net: brief };
const HEADS = {
  share: "share of the attribution",
  enrichment: "times its area, log2",
  net: "net attribution",
};

/** The outline of a symbol of radius r around 0, by Plotly's names. */
function symbolPath(symbol, r) {
  const corners = {
    square: [4, 45, 1.2], diamond: [4, 0, 1.3], "triangle-up": [3, 0, 1.35], "triangle-down": [3, 180, 1.35],
    pentagon: [5, 0, 1.15], hexagon: [6, 0, 1.15], star: [10, 0, 1.4],
  }[symbol];
  if (!corners) return `M${-r},0a${r},${r} 0 1,0 ${2 * r},0a${r},${r} 0 1,0 ${-2 * r},0Z`;
  const [count, turn, size] = corners;
  const points = Array.from({ length: count }, (_, i) => {
    const angle = ((turn - 90 + (360 * i) / count) * Math.PI) / 180;
    const reach = r * size * (symbol === "star" && i % 2 ? 0.45 : 1);
    return `${(reach * Math.cos(angle)).toFixed(2)},${(reach * Math.sin(angle)).toFixed(2)}`;
  });
  return `M${points.join("L")}Z`;
}

/** A part that keys can scroll where it is too narrow. */
function scrolled(name, content) {
  return make("div", { class: "fx-scroll", role: "group", "aria-label": name, tabindex: 0 }, content);
}

function symbolOf(model, filled, r = 5) {
  return make("path", {
    d: symbolPath(model.symbol, r), stroke: model.colour, "stroke-width": 1.8,
    fill: filled ? model.colour : "none", class: "fx-symbol",
  });
}

/** The quantile of magnitudes that colours end at; a network that lacks the target has no map. */
function limitOf(maps) {
  const all = maps.flatMap((map) => Array.from(map, Math.abs)).filter(Number.isFinite).sort((a, b) => a - b);
  return all.length ? all[Math.min(all.length - 1, Math.floor(0.995 * all.length))] || all[all.length - 1] || 1 : 1;
}

/** Which pixels lie in a polygon of grid points: 1 where the centre does (even-odd rule). */
export function inside(points, height, width) {
  const cover = new Uint8Array(height * width);
  for (let y = 0; y < height; y++)
    for (let x = 0; x < width; x++) {
      let odd = false;
      for (let i = 0, j = points.length - 1; i < points.length; j = i++) {
        const [ax, ay] = points[i], [bx, by] = points[j];
        if (ay > y !== by > y && x < ((bx - ax) * (y - ay)) / (by - ay) + ax) odd = !odd;
      }
      cover[y * width + x] = odd ? 1 : 0;
    }
  return cover;
}

/** The borders between pixels of different numbers, as a path in pixels of the grid. */
function borders(numbers, height, width) {
  const path = new Path2D();
  for (let y = 0; y < height; y++)
    for (let x = 0; x < width; x++) {
      const here = numbers[y * width + x];
      if (x + 1 < width && numbers[y * width + x + 1] !== here) path.moveTo(x + 1, y), path.lineTo(x + 1, y + 1);
      if (y + 1 < height && numbers[(y + 1) * width + x] !== here) path.moveTo(x, y + 1), path.lineTo(x + 1, y + 1);
    }
  return path;
}

/** What lies in a region of a map: mass, net, and its share of the whole mass. */
export function regionOf(map, cover) {
  let mass = 0, net = 0, whole = 0;
  for (let i = 0; i < map.length; i++) {
    const size = Math.abs(map[i]);
    whole += size;
    if (cover[i]) (mass += size), (net += map[i]);
  }
  return { mass, net, share: whole > 0 ? mass / whole : NaN };
}

// ---- the explorer ------------------------------------------------------------------------------------------------

export function mount(root, source) {
  const explorer = new Explorer(root, source);
  return () => explorer.leave();
}

class Explorer {
  constructor(root, source) {
    Object.assign(this, { source, header: source.header, frames: new Map(), lit: "", brush: null, worn: null });
    this.view = { ...source.header.view };
    this.root = make("div", { class: "fcx-explorer", role: "region", "aria-label": "Explorer of faces and maps" });
    // Keys that no control takes must not reach the notebook either.
    this.root.addEventListener("keydown", (event) => event.stopPropagation());
    root.append(this.root);
    this.root.explorer = this; // for those who measure it
    this.build();
    source.follow?.((view) => this.take(view));
    this.update({});
  }

  leave() {
    this.source.leave?.();
    for (const frame of this.frames.values()) frame.then(closed);
    URL.revokeObjectURL(this.spriteAddress);
    this.root.remove();
  }

  // -- what is shown --

  get face() {
    return Math.max(0, this.header.faces.findIndex((face) => face.id === this.view.sample));
  }
  get networks() {
    return this.view.networks.map((name) => this.header.models.findIndex((model) => model.name === name));
  }
  get method() {
    return this.header.methods.findIndex((method) => method.name === this.view.method);
  }
  get target() {
    return this.header.targets.indexOf(this.view.target);
  }

  /** Whether maps are shown with their signs: a method may have none. */
  get twoSigns() {
    return this.view.signed && this.header.methods[this.method].signed !== false;
  }

  /** Change the view, tell the kernel, and draw again. */
  update(change) {
    Object.assign(this.view, change);
    this.source.keep?.({ ...this.view });
    this.redraw(change);
  }

  /** Follow a view that the kernel set. */
  take(view) {
    if (JSON.stringify(view) === JSON.stringify(this.view)) return;
    Object.assign(this.view, view);
    this.redraw(view);
  }

  async redraw(change) {
    if ("sample" in change || "method" in change || "networks" in change) {
      this.worn = null;
      if (this.moved) this.ask(); // the mask stays moved on the next face
    }
    this.showControls();
    const wanted = `${this.view.method}|${this.face}`;
    try {
      const frame = await this.frame(this.face, this.view.method);
      if (wanted !== `${this.view.method}|${this.face}`) return; // another face was chosen meanwhile
      this.current = frame;
      if (!this.view.region) this.own = null;
      this.paint();
      if (this.view.region && ("region" in change || "sample" in change || "method" in change || "networks" in change
        || "target" in change || !this.own)) this.measure();
    } catch (error) {
      this.say(`The face cannot be shown: ${error.message}`);
      throw error;
    }
  }

  /** The frame of a face, from memory or the source; the oldest of too many goes. */
  frame(face, method) {
    const key = `${method}|${face}`;
    const kept = this.frames.get(key) ?? this.load(face, method);
    this.frames.delete(key);
    this.frames.set(key, kept);
    if (this.frames.size > KEPT) {
      const [oldest, frame] = this.frames.entries().next().value;
      this.frames.delete(oldest);
      frame.then(closed);
    }
    return kept;
  }

  async load(face, method) {
    const { data, pictures } = await this.source.frame(face, method);
    const frame = arraysOf(this.header, data);
    frame.faces = await Promise.all(pictures.map(greyed));
    return frame;
  }

  /** A map as numbers; after a mask was moved, the map of the moved one. */
  map(model, condition, target = this.target) {
    const [height, width] = this.header.size, size = height * width;
    const worn = this.wornAt(model, condition);
    const frame = worn ? this.worn.frame : this.current;
    const place = worn ? worn.place * this.header.targets.length + target : this.place(model, condition, target);
    return this.numbers(frame, place, size);
  }

  /** A map of a frame: 8 bits stand for parts of its largest value. */
  numbers(frame, place, size) {
    const { levels } = this.header, top = frame.top[place];
    return Float32Array.from(frame.map.subarray(place * size, (place + 1) * size),
      (step) => (step < 0 ? -levels[-step] : levels[step]) * top);
  }

  place(model, condition, target = this.target) {
    return (model * this.header.conditions.length + condition) * this.header.targets.length + target;
  }

  wornAt(model, condition) {
    if (!this.worn || condition !== this.worn.condition) return null;
    const place = this.worn.models.indexOf(this.header.models[model].name);
    return place < 0 ? null : { place };
  }

  /** This face's value of the quantity that is shown, in a region. */
  value(model, condition, region, quantity = this.view.quantity) {
    const count = this.header.regions.length, worn = this.wornAt(model, condition);
    if (worn) return this.worn.frame[quantity][(worn.place * this.header.targets.length + this.target) * count + region];
    return this.current[quantity][this.place(model, condition) * count + region];
  }

  mean(model, condition, region, quantity = this.view.quantity) {
    const at = (end) => this.header.means[quantity][end][model][condition][this.method][this.target][region];
    return { mean: at("mean"), low: at("low"), high: at("high") };
  }

  prediction(model, condition, target) {
    const worn = this.wornAt(model, condition);
    if (worn) return this.worn.prediction[worn.place][this.header.targets.indexOf(target)];
    return this.header.prediction[model][condition][this.header.targets.indexOf(target)]?.[this.face];
  }

  /** Arousal and valence of a prediction, null where the results lack one of them. */
  answer(model, condition) {
    const [valence, arousal] = ["valence", "arousal"].map((target) => this.prediction(model, condition, target));
    return valence == null || arousal == null ? null : { valence, arousal };
  }

  // -- the page --

  build() {
    const { header } = this;
    this.controls = {};
    this.title = make("p", { class: "fx-title" });
    this.status = make("p", { class: "fx-status", role: "status", "aria-live": "polite" });
    this.panels = make("div", { class: "fx-panels" });
    this.bars = make("table", { class: "fx-bars" });
    this.ownText = make("div", { class: "fx-own", "aria-live": "polite" });
    this.answers = make("table", { class: "fx-answers" });
    const half = make("div", { class: "fx-right" },
      make("div", { class: "fx-head" }, make("div", { class: "fx-name" }, "Regions"), this.quantityField()), make("div", { class: "fx-scroll" }, this.bars), this.ownText);
    const plane = make("div", { class: "fx-left" },
      make("div", { class: "fx-name" }, "Valence and arousal"), this.buildPlane(), this.limitsField(),
      scrolled("Predictions", this.answers));
    const middle = make("div", { class: "fx-middle" }, this.title, this.panels, this.buildKey(), this.lookField());
    if (header.live) middle.append(this.buildMask());
    this.root.append(this.buildStrip(), this.chooseField(), make("div", { class: "fx-main" }, plane, middle, half),
      this.copyField(), this.status);
  }

  field(label, control, extra = {}) {
    return make("label", { class: "fx-field", ...extra }, make("span", {}, label), control);
  }

  select(name, options, changed) {
    const control = make("select", { name, onchange: () => changed(control.value) },
      ...options.map(([value, text]) => make("option", { value }, text)));
    return (this.controls[name] = control);
  }

  slider(name, low, high, step, changed) {
    const control = make("input", { type: "range", name, min: low, max: high, step,
      oninput: () => changed(Number(control.value)) });
    return (this.controls[name] = control);
  }

  checkbox(name, label, changed) {
    const control = make("input", { type: "checkbox", name, onchange: () => changed(control.checked) });
    this.controls[name] = control;
    return make("label", { class: "fx-check" }, control, label);
  }

  chooseField() {
    const { models, methods, targets } = this.header;
    const names = models.map(({ name, title }) => [name, title]);
    const networks = (place) => (name) => {
      const chosen = [...this.view.networks];
      if (name) chosen[place] = name;
      else chosen.splice(1);
      this.update({ networks: [...new Set(chosen)] });
    };
    return make("div", { class: "fx-choose" },
      this.field("Network", this.select("network", names, networks(0))),
      models.length > 1 ? this.field("beside", this.select("beside", [["", "no other"], ...names], networks(1))) : null,
      this.field("Method", this.select("method", methods.map(({ name, title }) => [name, title]),
        (method) => this.update({ method }))),
      this.field("Target", this.select("target", targets.map((name) => [name, name]),
        (target) => this.update({ target }))),
      models.length > 1 ? this.checkbox("difference", "difference", (difference) => this.update({ difference })) : null);
  }

  lookField() {
    return make("div", { class: "fx-look" },
      this.field("Show", this.select("signed", [["signed", "signed: raises or lowers"], ["absolute", "absolute: how much"]],
        (value) => this.update({ signed: value === "signed" }))),
      this.field("Opacity", this.slider("opacity", 0, 1, 0.05, (opacity) => this.update({ opacity }))),
      this.field("Scale", this.slider("scale", 0.05, 2, 0.05, (scale) => this.update({ scale }))),
      this.checkbox("outlines", "outlines", (outlines) => this.update({ outlines })),
      this.drawButton = make("button", { type: "button", "aria-pressed": "false", onclick: () => this.toggleDrawing() },
        "Draw a region"),
      this.clearButton = make("button", { type: "button", onclick: () => this.update({ region: null }) }, "Remove it"));
  }

  quantityField() {
    return this.field("Value", this.select("quantity",
      Object.keys(this.header.quantities).map((name) => [name, HEADS[name] ?? name]),
      (quantity) => this.update({ quantity })));
  }

  copyField() {
    const button = (text, action) => make("button", { type: "button", onclick: action }, text);
    return make("div", { class: "fx-copy" },
      button("Copy picture", () => this.copyPicture()),
      button("Copy data", () => this.copyText("The numbers", JSON.stringify(this.data(), null, 1))),
      button("Copy Python", () => this.copyText("The line", this.python())));
  }

  /** Put what the controls say in line with the view. */
  showControls() {
    const { view, controls } = this;
    controls.network.value = view.networks[0];
    if (controls.beside) {
      controls.beside.value = view.networks[1] ?? "";
      for (const option of controls.beside.options) option.disabled = option.value === view.networks[0];
      controls.difference.checked = view.difference;
      controls.difference.disabled = view.networks.length < 2;
    }
    for (const name of ["method", "target", "quantity", "opacity", "scale"]) controls[name].value = view[name];
    controls.signed.value = this.twoSigns ? "signed" : "absolute";
    controls.signed.disabled = this.header.methods[this.method].signed === false;
    controls.outlines.checked = view.outlines;
    this.clearButton.hidden = !view.region;
    this.showStrip();
  }

  paint() {
    this.showTitle();
    this.paintPanels();
    this.showBars();
    this.showPlane();
    this.showOwn();
  }

  showTitle() {
    const face = this.header.faces[this.face];
    const label = face.valence == null && face.arousal == null ? "unlabelled"
      : `labelled valence ${signed(face.valence)}, arousal ${signed(face.arousal)}`;
    this.title.replaceChildren(make("strong", {}, face.id), ` ${[face.expression, label].filter(Boolean).join(", ")}`);
  }

  say(text) {
    this.status.textContent = text;
  }

  // -- the strip of faces --

  buildStrip() {
    const { side, columns } = this.header.sprite;
    const name = unique();
    this.strip = make("div", { class: "fx-strip", role: "listbox", tabindex: 0, "aria-label": "Faces",
      onkeydown: (event) => this.stripKey(event) });
    this.thumbs = this.header.faces.map((face, place) => make("div", {
      class: "fx-thumb", role: "option", "aria-selected": "false", id: `${name}-${place}`, "aria-label": this.faceName(face), title: this.faceName(face),
      style: `background-position: -${(place % columns) * side}px -${Math.floor(place / columns) * side}px`,
      onclick: () => this.update({ sample: face.id }),
    }));
    this.strip.append(...this.thumbs);
    this.source.sprite().then((blob) => {
      this.spriteAddress = URL.createObjectURL(blob);
      this.strip.style.setProperty("--fx-sprite", `url(${this.spriteAddress})`);
    });
    this.filterText = make("p", { class: "fx-filter" });
    return make("div", {}, this.strip, this.filterText);
  }

  faceName(face) {
    return [face.id, face.expression].filter(Boolean).join(", ");
  }

  /** The places of the faces that the brush leaves. */
  offered() {
    const all = this.header.faces.map((_, place) => place);
    return this.brush ? all.filter((place) => within(this.brush, this.spot(place))) : all;
  }

  /** Mark the chosen face and bring it into sight; of a thousand thumbnails only what changes is touched. */
  showStrip() {
    const { face, strip } = this;
    if (face === this.marked) return;
    const { scrollLeft: from, clientWidth: wide } = strip, left = this.offered().indexOf(face) * THUMB_STEP;
    this.thumbs[this.marked]?.setAttribute("aria-selected", "false");
    this.thumbs[face].setAttribute("aria-selected", "true");
    strip.setAttribute("aria-activedescendant", this.thumbs[face].id);
    this.marked = face;
    if (left < from || left + THUMB_STEP > from + wide) strip.scrollLeft = left - wide / 2;
  }

  /** Offer only the faces that the brush leaves. */
  filterStrip() {
    const offered = new Set(this.offered());
    this.thumbs.forEach((thumb, place) => (thumb.hidden = !offered.has(place)));
    this.filterText.textContent = this.brush ? `${offered.size} of ${this.thumbs.length} faces lie in the field.` : "";
  }

  stripKey(event) {
    const offered = this.offered(), place = offered.indexOf(this.face), last = offered.length - 1;
    const next = { ArrowRight: place + 1, ArrowDown: place + 1, ArrowLeft: place - 1, ArrowUp: place - 1, Home: 0,
      End: last, PageDown: place + 10, PageUp: place - 10 }[event.key];
    if (next === undefined || last < 0) return;
    event.preventDefault();
    this.update({ sample: this.header.faces[offered[Math.min(last, Math.max(0, next))]].id });
  }

  // -- maps over faces --

  /** Rows of what is drawn: a network each, and their difference. */
  rows() {
    const rows = this.networks.map((model) => ({ model, title: this.header.models[model].title,
      maps: this.header.conditions.map((_, condition) => this.shown(this.map(model, condition))) }));
    if (this.view.difference && rows.length === 2)
      rows.push({ title: `${rows[1].title} − ${rows[0].title}`, difference: true,
        maps: rows[1].maps.map((map, c) => map.map((value, i) => value - rows[0].maps[c][i])) });
    return rows;
  }

  shown(map) {
    return this.twoSigns ? map : map.map(Math.abs);
  }

  paintPanels() {
    const rows = this.rows(), { conditions } = this.header;
    this.limit = limitOf(rows.flatMap((row) => row.maps)) * this.view.scale;
    this.panels.style.setProperty("--fx-columns", conditions.length);
    const key = JSON.stringify([this.view.networks, this.view.difference]);
    if (key !== this.panelKey) {
      this.panelKey = key;
      this.panels.replaceChildren();
      this.figures = rows.flatMap((row, r) => conditions.map((_, c) => this.panel(r, c)));
      this.panels.append(...this.figures.map(({ figure }) => figure));
    }
    rows.forEach((row, r) => conditions.forEach((condition, c) => {
      const { canvas, caption } = this.figures[r * conditions.length + c];
      this.paintPanel(canvas, row, c);
      const answer = row.difference ? null : this.prediction(row.model, c, this.view.target);
      const words = row.difference ? "" : ` · predicts ${signed(answer)}`;
      caption.replaceChildren(make("strong", {}, row.title), make("br"), `${condition}${words}`);
      canvas.setAttribute("aria-label", `Map of ${this.view.target}, ${row.title}, ${condition}${words}`);
    }));
    this.showKey(rows.some((row) => row.difference));
  }

  panel(row, condition) {
    const canvas = make("canvas", { width: PANEL, height: PANEL, role: "img" });
    const caption = make("figcaption", {});
    canvas.addEventListener("pointermove", (event) => this.over(event, canvas, condition));
    canvas.addEventListener("pointerleave", () => this.light(""));
    canvas.addEventListener("pointerdown", (event) => this.startDrawing(event, canvas));
    canvas.addEventListener("pointerup", () => this.endDrawing());
    return { canvas, caption, figure: make("figure", {}, canvas, caption) };
  }

  paintPanel(canvas, row, condition) {
    const pen = canvas.getContext("2d"), [height, width] = this.header.size;
    const worn = this.worn?.condition === condition ? this.worn : null;
    pen.setTransform(1, 0, 0, 1, 0, 0);
    pen.imageSmoothingEnabled = true;
    pen.imageSmoothingQuality = "high";
    const face = worn?.face ?? this.current.faces[condition];
    pen.drawImage(face, 0, 0, PANEL, PANEL);
    pen.drawImage(this.heat(row.maps[condition], this.twoSigns || row.difference), 0, 0, PANEL, PANEL);
    pen.setTransform(PANEL / width, 0, 0, PANEL / height, 0, 0);
    const frame = this.current;
    if (this.view.outlines) {
      frame.lines ??= borders(frame.part, height, width);
      stroke(pen, frame.lines, 0.16);
      (worn?.frame ?? frame).mask ??= borders(this.coverOf("mask", worn?.frame ?? frame), height, width);
      stroke(pen, (worn?.frame ?? frame).mask, 0.16, [0.8, 0.6]);
    }
    if (this.lit) {
      const cover = this.coverOf(this.lit, worn?.frame ?? frame);
      if (cover) {
        pen.fillStyle = "rgba(255, 210, 60, .35)";
        cover.forEach((here, i) => here && pen.fillRect(i % width, Math.floor(i / width), 1, 1));
        stroke(pen, borders(cover, height, width), 0.5);
      }
    }
    const points = this.drawing?.points ?? this.view.region;
    if (points?.length > 1) {
      const path = new Path2D();
      points.forEach(([x, y], i) => path[i ? "lineTo" : "moveTo"](x + 0.5, y + 0.5));
      path.closePath();
      stroke(pen, path, 0.5);
    }
  }

  overlay(frame, number) {
    const size = this.header.size[0] * this.header.size[1];
    return frame.overlay.subarray(number * size, (number + 1) * size);
  }

  /** Which pixels belong to a region (1), null for one that is not on the grid. */
  coverOf(region, frame) {
    const overlay = this.header.overlays.indexOf(region);
    if (overlay >= 0) return this.overlay(frame, overlay).map((value) => (value >= 128 ? 1 : 0));
    const number = this.header.regions.indexOf(region);
    return number < 0 ? null : this.current.part.map((value) => (value === number ? 1 : 0));
  }

  /** A map as a picture, at the map's own resolution: the more, the less can be seen through it. */
  heat(map, twoSigns) {
    const [height, width] = this.header.size, step = this.header.methods[this.method].resolution || 1;
    const rows = Math.ceil(height / step), columns = Math.ceil(width / step);
    const picture = new ImageData(columns, rows);
    const colours = this.header.colours[twoSigns ? "signed" : "unsigned"];
    for (let y = 0; y < rows; y++)
      for (let x = 0; x < columns; x++) {
        const value = Math.max(-1, Math.min(1, map[y * step * width + x * step] / this.limit || 0));
        const place = Math.round(255 * (twoSigns ? (value + 1) / 2 : Math.abs(value)));
        picture.data.set(colours[place], 4 * (y * columns + x));
        picture.data[4 * (y * columns + x) + 3] = 255 * this.view.opacity * Math.abs(value) ** STRENGTH;
      }
    this.sheet ??= document.createElement("canvas");
    Object.assign(this.sheet, { width: columns, height: rows });
    this.sheet.getContext("2d").putImageData(picture, 0, 0);
    return this.sheet;
  }

  buildKey() {
    this.keyBar = make("canvas", { width: 256, height: 1, "aria-hidden": "true" });
    this.keyLow = make("span", {});
    this.keyHigh = make("span", {});
    this.keyText = make("p", {});
    return make("div", { class: "fx-key" }, make("div", {}, this.keyLow, this.keyBar, this.keyHigh), this.keyText);
  }

  showKey(difference) {
    const { twoSigns } = this, { target } = this.view, method = this.header.methods[this.method];
    const pen = this.keyBar.getContext("2d");
    this.header.colours[twoSigns ? "signed" : "unsigned"].forEach((colour, i) => {
      pen.fillStyle = `rgb(${colour})`;
      pen.fillRect(i, 0, 1, 1);
    });
    this.keyLow.textContent = twoSigns ? brief(-this.limit) : "0";
    this.keyHigh.textContent = brief(this.limit);
    const shows = method.shows.replace("{}", target);
    const colours = twoSigns ? `Red raises ${target}, blue lowers it.` : "The darker, the more.";
    this.keyText.textContent = `${method.title}: ${shows}. ${colours} One scale for all pictures.` +
      (difference ? " The difference has two signs: red where the second network has more." : "");
  }

  // -- regions --

  /** Light a region up, in the pictures and in the table. */
  light(region) {
    if (region === this.lit) return;
    this.lit = region;
    for (const row of this.bars.querySelectorAll("tr[data-region]"))
      row.classList.toggle("fx-lit", row.dataset.region === region);
    this.repaint();
  }

  /** Paint the panels once before the next frame of the screen. */
  repaint() {
    this.pending ??= requestAnimationFrame(() => {
      this.pending = null;
      if (this.current) this.paintPanels();
    });
  }

  over(event, canvas, condition) {
    if (this.drawing) return this.goOnDrawing(event, canvas);
    const [x, y] = this.gridPoint(event, canvas).map(Math.round), [height, width] = this.header.size;
    if (x < 0 || y < 0 || x >= width || y >= height) return this.light("");
    const at = y * width + x, frame = this.worn?.condition === condition ? this.worn.frame : this.current;
    const masked = condition > 0 && this.overlay(frame, this.header.overlays.indexOf("mask"))[at] >= 128;
    this.light(masked ? "mask" : this.header.regions[this.current.part[at]]);
  }

  /** Where the pointer is, in pixels of the grid whose centres are whole numbers. */
  gridPoint(event, canvas) {
    const box = canvas.getBoundingClientRect(), [height, width] = this.header.size;
    return [((event.clientX - box.left) / box.width) * width - 0.5, ((event.clientY - box.top) / box.height) * height - 0.5]
      .map((value) => Math.round(value * 10) / 10);
  }

  /** What the bars stand for: each network that is shown, in each condition. */
  series() {
    return this.networks.flatMap((model) => this.header.conditions.map((condition, c) => ({ model, condition, c })));
  }

  showBars() {
    const { regions } = this.header, { quantity } = this.view, series = this.series();
    const rows = regions.map((region, r) => ({ region, cells: series.map(({ model, c }) => ({
      value: this.value(model, c, r), ...this.mean(model, c, r) })) }));
    if (this.own?.length === series.length)
      rows.push({ region: "drawn region", own: true, cells: this.own.map((own) => ({
        value: own[quantity], mean: own.mean?.[quantity], low: null, high: null })) });
    const ends = rows.flatMap(({ cells }) => cells.flatMap(({ value, low, high, mean }) => [value, low, high, mean]))
      .filter(Number.isFinite);
    const low = Math.min(0, ...ends), high = Math.max(0, ...ends) || 1, reach = (high - low) * 1.04 || 1;
    const at = (value) => (100 * (value - low)) / reach;
    this.bars.replaceChildren(
      make("caption", {}, `Bars: this face. Lines: mean and 95 % interval over ${this.header.count} faces.`),
      make("thead", {}, make("tr", {}, make("th", { scope: "col" }, "region"),
        make("th", { scope: "col" }, HEADS[quantity] ?? quantity), make("th", { scope: "col", class: "fx-n" }, "face"),
        make("th", { scope: "col", class: "fx-n" }, "all"))),
      make("tbody", {}, ...rows.map((row) => this.barRow(row, series, at))));
    this.bars.querySelector(`tr[data-region="${CSS.escape(this.lit)}"]`)?.classList.add("fx-lit");
  }

  barRow({ region, own, cells }, series, at) {
    const track = make("svg", { "aria-hidden": "true", height: 12 * cells.length, width: "100%" });
    track.append(make("line", { x1: `${at(0)}%`, x2: `${at(0)}%`, y1: 0, y2: "100%", class: "fx-zero" }));
    cells.forEach(({ value, mean, low, high }, i) => {
      const { model, c } = series[i], top = 12 * i, { models } = this.header;
      // Trainings of one family have one colour: the second that is shown is mixed with ink.
      const like = model !== series[0].model && models[model].colour === models[series[0].model].colour;
      const colour = like ? `color-mix(in srgb, ${models[model].colour} 45%, currentcolor)` : models[model].colour;
      if (Number.isFinite(value)) track.append(make("rect", { x: `${Math.min(at(0), at(value))}%`, y: top + 1.5,
        width: `${Math.abs(at(value) - at(0))}%`, height: 9, fill: colour, class: c ? "fx-bar" : "fx-bar fx-plain",
        stroke: colour }));
      if (Number.isFinite(low) && Number.isFinite(high)) track.append(
        make("line", { x1: `${at(low)}%`, x2: `${at(high)}%`, y1: top + 6, y2: top + 6, class: "fx-whisker" }));
      if (Number.isFinite(mean)) track.append(
        make("line", { x1: `${at(mean)}%`, x2: `${at(mean)}%`, y1: top + 2, y2: top + 10, class: "fx-whisker" }));
    });
    const write = WRITE[this.view.quantity] ?? brief;
    const name = (i) => `${this.header.models[series[i].model].title}, ${series[i].condition}: `;
    const numbers = (what) => make("td", { class: "fx-n" }, ...cells.map((cell, i) =>
      make("span", { "data-value": cell[what] ?? "" }, make("span", { class: "fx-hidden" }, name(i)), write(cell[what]))));
    const button = make("button", { type: "button", class: "fx-region", onfocus: () => this.light(region),
      onblur: () => this.light("") }, region);
    const row = make("tr", { "data-region": region, class: own ? "fx-drawn" : "" },
      make("th", { scope: "row" }, button), make("td", { class: "fx-track" }, track), numbers("value"), numbers("mean"));
    row.addEventListener("pointerenter", () => this.light(region));
    row.addEventListener("pointerleave", () => this.light(""));
    return row;
  }

  // -- a region of one's own --

  toggleDrawing() {
    this.armed = !this.armed;
    this.drawButton.setAttribute("aria-pressed", String(this.armed));
    this.panels.classList.toggle("fx-drawing", this.armed);
    if (this.armed) this.say("Draw around a part of any picture.");
  }

  startDrawing(event, canvas) {
    if (!this.armed) return;
    event.preventDefault();
    canvas.setPointerCapture(event.pointerId);
    this.drawing = { points: [this.gridPoint(event, canvas)] };
  }

  goOnDrawing(event, canvas) {
    this.drawing.points.push(this.gridPoint(event, canvas));
    this.repaint();
  }

  endDrawing() {
    if (!this.drawing) return;
    const { points } = this.drawing;
    this.drawing = null;
    this.toggleDrawing();
    if (points.length > 2 && inside(points, ...this.header.size).some(Boolean)) this.update({ region: points });
    else this.say("Nothing was drawn: go around at least one point of the grid.");
  }

  /** Measure the drawn region in this face's maps and in those of all faces. */
  async measure() {
    const [height, width] = this.header.size, cover = inside(this.view.region, height, width);
    const area = cover.reduce((sum, here) => sum + here, 0) / cover.length;
    const series = this.series(), turn = (this.measuring = (this.measuring ?? 0) + 1);
    let own;
    if (this.source.region && !this.worn) {
      const { networks, method, target, sample, region } = this.view;
      const { rows, count } = await this.source.region({ networks, method, target, sample, region });
      own = rows.map((row) => ({ ...row, count }));
    } else own = await this.measured(series, cover);
    if (turn !== this.measuring || !this.view.region) return; // asked again meanwhile, of another face or mask
    const scored = (one) => one && { ...one, enrichment: Math.log2(one.share / area) };
    this.own = own.map((one) => ({ ...scored(one), mean: scored(one.mean), count: one.count }));
    this.measuredOf = { series, area };
    this.showOwn();
    this.showBars();
  }

  async measured(series, cover) {
    const size = cover.length, keys = this.header.faces.map((_, face) => face);
    const own = series.map(({ model, c }) => regionOf(this.map(model, c), cover));
    const sums = series.map(() => ({ mass: 0, net: 0, share: 0, count: 0 }));
    for (const face of keys) {
      const frame = arraysOf(this.header, (await this.source.frame(face, this.view.method)).data);
      series.forEach(({ model, c }, i) => {
        const place = this.place(model, c);
        const one = regionOf(this.numbers(frame, place, size), cover);
        if (!Number.isFinite(one.share)) return;
        for (const name of ["mass", "net", "share"]) sums[i][name] += one[name];
        sums[i].count += 1;
      });
    }
    return own.map((one, i) => ({ ...one, count: sums[i].count, mean: Object.fromEntries(
      ["mass", "net", "share"].map((name) => [name, sums[i][name] / sums[i].count])) }));
  }

  showOwn() {
    if (!this.own) return this.ownText.replaceChildren();
    const { series, area } = this.measuredOf;
    const rows = this.own.map((own, i) => make("tr", { "data-series": i },
      make("th", { scope: "row" }, `${this.header.models[series[i].model].title}, ${series[i].condition}`),
      ...[["mass", brief], ["share", percent], ["enrichment", signed]].flatMap(([name, write]) => [own, own.mean].map(
        (one) => make("td", { class: "fx-n", "data-value": one?.[name] ?? "" }, write(one?.[name]))))));
    const heads = ["mass", "share", "log2"].flatMap((name) => [name, "all"]);
    this.ownText.replaceChildren(make("div", { class: "fx-name" }, "Your region"),
      make("p", {}, `${percent(area)} of the picture; “all”: the mean over ${this.own[0].count} faces.` +
        (this.header.exact ? "" : ` Shares of maps of 8 bits, off by at most ${percent(this.header.error)}.`)),
      scrolled("Numbers of your region", make("table", { class: "fx-answers" },
        make("thead", {}, make("tr", {}, make("td", {}), ...heads.map((head) => make("th", { scope: "col", class: "fx-n" }, head)))),
        make("tbody", {}, ...rows))));
  }

  // -- the plane --

  /** Where a face lies in the plane: its label, or else what the first network predicts of it. */
  spot(place) {
    const face = this.header.faces[place];
    if (face.valence != null && face.arousal != null) return face;
    const at = (target) => this.header.prediction[0][0][this.header.targets.indexOf(target)]?.[place];
    return { valence: at("valence"), arousal: at("arousal") };
  }

  buildPlane() {
    const side = 260, middle = side / 2, unit = (side / 2) * 0.86;
    this.toPlane = ({ valence, arousal }) => [middle + unit * valence, middle - unit * arousal];
    this.fromPlane = (x, y) => ({ valence: (x - middle) / unit, arousal: (middle - y) / unit });
    const words = (text, x, y, anchor = "middle") => make("text", { x, y, "text-anchor": anchor, class: "fx-word" }, text);
    this.dots = make("g", { class: "fx-dots" });
    this.marks = make("g", {});
    this.field2 = make("rect", { class: "fx-brush", visibility: "hidden" });
    this.plane = make("svg", { viewBox: `0 0 ${side} ${side}`, "aria-hidden": "true" },
      make("rect", { x: middle - unit, y: middle - unit, width: 2 * unit, height: 2 * unit, class: "fx-frame" }),
      make("line", { x1: middle - unit, x2: middle + unit, y1: middle, y2: middle, class: "fx-axis" }),
      make("line", { x1: middle, x2: middle, y1: middle - unit, y2: middle + unit, class: "fx-axis" }),
      words("arousal", middle, middle - unit - 6), words("valence", middle, side - 4),
      words("−1", middle - unit, side - 4, "start"), words("+1", middle + unit, side - 4, "end"),
      words("+1", middle - unit, middle - unit - 6, "start"),
      this.dots, this.field2, this.marks);
    this.header.faces.forEach((_, place) => {
      const { valence, arousal } = this.spot(place);
      if (valence == null || arousal == null) return;
      const [cx, cy] = this.toPlane({ valence, arousal });
      this.dots.append(make("circle", { cx, cy, r: 2.6 }));
    });
    const box = make("div", { class: "fx-plane", role: "group", tabindex: 0,
      "aria-label": "Plane of valence and arousal; arrow keys go to the nearest face in their direction",
      onkeydown: (event) => this.planeKey(event) }, this.plane);
    box.addEventListener("pointerdown", (event) => this.brushFrom(event));
    box.addEventListener("pointermove", (event) => this.brushTo(event));
    box.addEventListener("pointerup", (event) => this.brushEnd(event));
    return box;
  }

  planePoint(event) {
    const box = this.plane.getBoundingClientRect(), side = 260;
    return this.fromPlane(((event.clientX - box.left) / box.width) * side, ((event.clientY - box.top) / box.height) * side);
  }

  brushFrom(event) {
    this.plane.setPointerCapture?.(event.pointerId);
    this.from = this.planePoint(event);
  }

  brushTo(event) {
    if (!this.from) return;
    const to = this.planePoint(event);
    if (Math.hypot(to.valence - this.from.valence, to.arousal - this.from.arousal) < 0.05 && !this.brushing) return;
    this.brushing = true;
    this.setBrush({ valence: [this.from.valence, to.valence].sort(ascending), arousal: [this.from.arousal, to.arousal].sort(ascending) });
  }

  brushEnd(event) {
    const clicked = this.from && !this.brushing;
    const at = this.planePoint(event);
    this.from = null;
    this.brushing = false;
    if (!clicked) return this.say(this.filterText.textContent);
    if (this.brush) return this.setBrush(null);
    const near = this.nearest(this.header.faces.map((_, place) => place), at);
    if (near !== undefined) this.update({ sample: this.header.faces[near].id });
  }

  setBrush(brush) {
    this.brush = brush;
    this.filterStrip();
    for (const name of ["valence", "arousal"])
      [0, 1].forEach((end) => (this.limits[name][end].value = brush ? Math.max(-1, Math.min(1, brush[name][end])).toFixed(2) : [-1, 1][end]));
    const whole = brush ?? { valence: [0, 0], arousal: [0, 0] };
    const [left, top] = this.toPlane({ valence: whole.valence[0], arousal: whole.arousal[1] });
    const [right, bottom] = this.toPlane({ valence: whole.valence[1], arousal: whole.arousal[0] });
    const place = { x: left, y: top, width: right - left, height: bottom - top, visibility: brush ? "visible" : "hidden" };
    for (const [name, value] of Object.entries(place)) this.field2.setAttribute(name, value);
  }

  /** The same field by numbers, for those who do not draw. */
  limitsField() {
    const read = () => {
      const ends = (name) => this.limits[name].map((input) => Number(input.value)).sort(ascending);
      const brush = { valence: ends("valence"), arousal: ends("arousal") };
      const whole = Object.values(brush).every(([low, high]) => low <= -1 && high >= 1);
      this.setBrush(whole ? null : brush);
      this.say(this.filterText.textContent || "All faces are offered.");
    };
    const number = (name, end) => make("input", { type: "number", min: -1, max: 1, step: 0.05, value: [-1, 1][end],
      "aria-label": `${name} ${end ? "to" : "from"}`, onchange: read });
    this.limits = { valence: [number("valence", 0), number("valence", 1)], arousal: [number("arousal", 0), number("arousal", 1)] };
    const row = (name) => make("p", {}, make("span", {}, name), this.limits[name][0], " to ", this.limits[name][1]);
    return make("details", { class: "fx-limits" }, make("summary", {}, "Only faces between"), row("valence"), row("arousal"));
  }

  nearest(places, { valence, arousal }) {
    const far = (place) => Math.hypot(this.spot(place).valence - valence, this.spot(place).arousal - arousal);
    return places.filter((place) => Number.isFinite(far(place))).sort((a, b) => far(a) - far(b))[0];
  }

  planeKey(event) {
    const [right, up] = { ArrowRight: [1, 0], ArrowLeft: [-1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] }[event.key] ?? [];
    if (event.key === "Escape" && this.brush) return this.setBrush(null);
    if (right === undefined) return;
    event.preventDefault();
    const here = this.spot(this.face);
    const ahead = this.offered().filter((place) => {
      const spot = this.spot(place), along = (spot.valence - here.valence) * right + (spot.arousal - here.arousal) * up;
      const across = Math.abs((spot.valence - here.valence) * up) + Math.abs((spot.arousal - here.arousal) * right);
      return along > 1e-9 && along >= across;
    });
    const near = this.nearest(ahead, here);
    if (near !== undefined) this.update({ sample: this.header.faces[near].id });
  }

  showPlane() {
    const face = this.header.faces[this.face], shown = new Set(this.networks);
    this.marks.replaceChildren();
    this.header.models.forEach((model, m) => {
      const spots = this.header.conditions.map((_, c) => this.answer(m, c)).map((answer) => answer && this.toPlane(answer));
      if (!spots.every(Boolean)) return;
      const group = make("g", { class: shown.has(m) ? "" : "fx-aside" });
      if (spots.length > 1) group.append(make("line", { x1: spots[0][0], y1: spots[0][1], x2: spots[1][0], y2: spots[1][1],
        stroke: model.colour, "stroke-width": 1.2 }));
      spots.forEach(([x, y], c) => {
        const mark = symbolOf(model, c > 0);
        mark.setAttribute("transform", `translate(${x},${y})`);
        group.append(mark);
      });
      this.marks.append(group);
    });
    if (face.valence != null && face.arousal != null) {
      const [x, y] = this.toPlane(face);
      this.marks.append(make("path", { d: `M${x - 7},${y}H${x + 7}M${x},${y - 7}V${y + 7}`, class: "fx-label" }),
        make("circle", { cx: x, cy: y, r: 8, class: "fx-label" }));
    }
    this.showAnswers(face);
  }

  showAnswers(face) {
    const { models, conditions, targets } = this.header;
    const symbol = (model) => make("svg", { width: 14, height: 14, viewBox: "-7 -7 14 14", "aria-hidden": "true" }, symbolOf(model, true, 4.5));
    const cells = (of) => targets.map((target) => make("td", { class: "fx-n", "data-value": of(target) ?? "" }, signed(of(target))));
    const label = (target) => face[target];
    const rows = models.flatMap((model, m) => conditions.map((condition, c) => make("tr", { "data-model": model.name, "data-condition": condition },
      make("th", { scope: "row", class: "fx-model" }, c ? "" : symbol(model), make("span", { class: c ? "fx-hidden" : "" }, model.title)),
      make("td", {}, condition), ...cells((target) => this.prediction(m, c, target)))));
    this.answers.replaceChildren(
      make("caption", {}, `Predictions (${["open", "full"].slice(0, conditions.length).map((word, c) =>
        `${word}: ${conditions[c]}`).join(", ")})${face.valence == null ? "" : "; the cross is the label"}`),
      make("thead", {}, make("tr", {}, make("td", {}), make("td", {}), ...targets.map((name) => make("th", { scope: "col", class: "fx-n" }, name)))),
      make("tbody", {}, make("tr", {}, make("th", { scope: "row" }, "label"), make("td", {}), ...cells(label)), ...rows));
  }

  // -- a mask moved by hand --

  /** Place, size, colour and style of the mask; the kernel answers with picture, prediction and map. */
  buildMask() {
    const { live } = this.header, box = make("fieldset", { class: "fx-mask" }, make("legend", {}, "Mask"));
    if (live.why) return box.append(make("p", {}, `It cannot be moved: ${live.why}.`)), box;
    const slider = (name, low, high) => this.field(name, this.slider(name, low, high, 0.05, () => this.moveMask()));
    const names = (list) => list.map((name) => [name, name.replaceAll("_", " ")]);
    this.controls.colour = make("input", { type: "color", name: "colour", value: "#9db8d9",
      "aria-label": "Colour of the mask", oninput: () => {
        this.controls.own.checked = true;
        this.moveMask();
      } });
    box.append(slider("size", 0.6, 1.5), slider("right", -4, 4), slider("up", -4, 4),
      this.field("Style", this.select("style", names(live.styles), () => this.moveMask())),
      this.field("Worn", this.select("wearing", names(live.wearings), () => this.moveMask())),
      make("span", { class: "fx-check" }, this.checkbox("own", "Colour", () => this.moveMask()), this.controls.colour),
      make("button", { type: "button", onclick: () => this.moveMask(this.showMask()) }, "As stored"),
      (this.maskText = make("p", { class: "fx-status", role: "status" })));
    this.showMask();
    return box;
  }

  /** Put the controls of the mask where the store has them. */
  showMask() {
    const { controls } = this, { scale, shift, style, wearing } = this.header.live.stored;
    const values = { size: scale, right: shift[0], up: shift[1], style, wearing };
    for (const [name, value] of Object.entries(values)) controls[name].value = value;
    controls.own.checked = false;
  }

  /** What the controls say of the mask, less what is as it is stored. */
  maskOptions() {
    const { controls } = this, { stored } = this.header.live;
    const chosen = {
      scale: Number(controls.size.value), shift: [Number(controls.right.value), Number(controls.up.value)],
      style: controls.style.value, wearing: controls.wearing.value,
      colour: controls.own.checked ? controls.colour.value : stored.colour,
    };
    return Object.fromEntries(Object.entries(chosen).filter(([name, value]) => String(value) !== String(stored[name])));
  }

  moveMask() {
    this.moved = true;
    this.ask();
  }

  /** Ask for the mask as it is now: one question at a time, the newest next, and one that is exact at rest. */
  async ask() {
    this.wanted = true;
    if (this.asking) return;
    this.asking = true;
    try {
      while (this.wanted) {
        this.wanted = false;
        await this.askOnce(false);
        if (!this.wanted) await new Promise((resolve) => setTimeout(resolve, 80));
        if (!this.wanted) await this.askOnce(true);
      }
    } catch (error) {
      this.maskText.textContent = `The mask cannot be worn so: ${error.message}`;
    } finally {
      this.asking = false;
    }
  }

  async askOnce(exact) {
    const { sample, networks, method } = this.view, mask = this.maskOptions(), started = performance.now();
    const answer = await this.source.wear({ sample, networks, method, mask, exact });
    const frame = arraysOf(this.header, answer.data, networks.length, 1), face = await greyed(answer.picture);
    const { view } = this;
    if (sample !== view.sample || method !== view.method || String(networks) !== String(view.networks)) return;
    if (this.worn) closed({ faces: [this.worn.face] });
    if (answer.apart === 0) this.moved = false; // nothing differs: what is stored is shown again
    this.worn = answer.apart === 0 ? null : { frame, face, models: networks, prediction: answer.prediction, options: mask,
      condition: this.header.conditions.indexOf(this.header.live.condition) };
    this.paint();
    if (!exact) this.took = [...(this.took ?? []).slice(-199), performance.now() - started];
    this.maskText.textContent = maskWords(answer);
    if (exact && this.view.region) this.measure();
  }

  // -- taking it away --

  /** What is shown, as numbers. */
  data() {
    const { view, header } = this, face = header.faces[this.face];
    const by = (names, value) => Object.fromEntries(names.map((name, i) => [name, value(i)]));
    return {
      face: face.id, expression: face.expression, label: { valence: face.valence, arousal: face.arousal },
      method: view.method, target: view.target, faces: header.count,
      predictions: header.models.flatMap(({ name }, m) => header.conditions.map((condition, c) => ({
        network: name, condition, ...by(header.targets, (t) => this.prediction(m, c, header.targets[t])) }))),
      regions: this.series().map(({ model, condition, c }) => ({
        network: header.models[model].name, condition,
        ...by(Object.keys(header.quantities), (q) => by(header.regions, (r) => {
          const quantity = Object.keys(header.quantities)[q];
          return { face: this.value(model, c, r, quantity), ...this.mean(model, c, r, quantity) };
        })) })),
      ...(this.view.region && this.own ? { drawn: { points: view.region, values: this.own } } : {}),
      ...(this.worn ? { mask: this.worn.options } : {}),
    };
  }

  /** The line of Python that makes this view. */
  python() {
    const { view, header } = this;
    const text = (value) => (value === true ? "True" : value === false ? "False" : value === null ? "None" : JSON.stringify(value));
    const networks = view.networks.join(",");
    const given = Object.entries({ ...view, networks }).filter(([name, value]) =>
      ["sample", "networks", "method", "target"].includes(name) || text(value) !== text(header.plain[name]));
    return `fcx.explore(faces, results, ${given.map(([name, value]) => `${name}=${text(value)}`).join(", ")})`;
  }

  async copyText(what, text) {
    try {
      await navigator.clipboard.writeText(text);
    } catch {
      const area = make("textarea", { class: "fx-hidden" });
      area.value = text;
      this.root.append(area);
      area.select();
      const copied = document.execCommand("copy");
      area.remove();
      if (!copied) return this.say(`The browser does not allow copying. ${text}`);
    }
    this.copied = text;
    this.say(`${what} can be pasted now.`);
  }

  async copyPicture() {
    const blob = await new Promise((resolve) => this.portrait().toBlob(resolve, "image/png"));
    try {
      await navigator.clipboard.write([new ClipboardItem({ "image/png": blob })]);
      this.say("The picture can be pasted now.");
    } catch {
      const link = make("a", { href: URL.createObjectURL(blob), download: "fcx-explorer.png" });
      link.click();
      setTimeout(() => URL.revokeObjectURL(link.href), 10000);
      this.say("The picture was saved as fcx-explorer.png: the browser does not allow copying it.");
    }
  }

  /** The view as one picture: the panels with their captions, and the regions with their values. */
  portrait() {
    const { conditions, regions } = this.header, rows = this.rows(), series = this.series();
    const side = 300, gap = 16, top = 76, line = 22, wide = conditions.length * (side + gap);
    const write = WRITE[this.view.quantity] ?? brief;
    const height = Math.max(top + rows.length * (side + 48), top + line * (regions.length + 2)) + 16;
    const canvas = make("canvas", { width: 2 * (wide + gap + 180 + 110 * series.length), height: 2 * height });
    const pen = canvas.getContext("2d");
    pen.scale(2, 2);
    pen.fillStyle = "white";
    pen.fillRect(0, 0, canvas.width, canvas.height);
    const put = (text, x, y, style = "14px") => {
      pen.font = `${style} system-ui, sans-serif`;
      pen.fillText(text, x, y);
    };
    pen.fillStyle = "#1f2430";
    put(this.title.textContent, gap, 28, "600 17px");
    put(this.keyText.textContent.split(". ")[0] + `, ±${brief(this.limit)}`, gap, 52);
    this.figures.forEach(({ canvas: panel, caption }, i) => {
      const x = gap + (i % conditions.length) * (side + gap), y = top + Math.floor(i / conditions.length) * (side + 48);
      pen.drawImage(panel, x, y, side, side);
      put([...caption.childNodes].map((node) => node.textContent).filter(Boolean).join(", "), x, y + side + 20, "13px");
    });
    const left = wide + 2 * gap;
    put(`${HEADS[this.view.quantity] ?? this.view.quantity}: this face (all)`, left, top - 8, "600 14px");
    series.forEach(({ model, condition }, i) => {
      put(this.header.models[model].title, left + 120 + 110 * i, top + 12, "12px");
      put(condition, left + 120 + 110 * i, top + 26, "12px");
    });
    regions.forEach((region, r) => {
      const y = top + line * (r + 2) + 6;
      put(region, left, y);
      series.forEach(({ model, c }, i) =>
        put(`${write(this.value(model, c, r))} (${write(this.mean(model, c, r).mean)})`, left + 120 + 110 * i, y, "13px"));
    });
    return canvas;
  }
}

function maskWords({ exact, preview, apart }) {
  if (preview) return "Preview: the source of this face is not there, so its small picture wears the mask.";
  if (!exact) return "Moving …";
  if (apart === undefined) return "Worn on the picture as it was read again.";
  return apart === 0 ? "As stored: every number of the maps is that of the results."
    : `As stored: the maps differ from those of the results by at most ${brief(apart)}.`;
}

const ascending = (a, b) => a - b;
const within = (brush, spot) => ["valence", "arousal"].every((name) =>
  spot[name] != null && spot[name] >= brush[name][0] && spot[name] <= brush[name][1]);
let lastName = 0;
const unique = () => `fx-${Date.now().toString(36)}-${(lastName += 1)}`;

/** A picture without its colours, lifted so that a map can be seen over dark parts. */
async function greyed(blob) {
  const bitmap = await createImageBitmap(blob);
  const canvas = document.createElement("canvas");
  Object.assign(canvas, { width: bitmap.width, height: bitmap.height });
  const pen = canvas.getContext("2d", { willReadFrequently: true });
  pen.drawImage(bitmap, 0, 0);
  bitmap.close();
  const picture = pen.getImageData(0, 0, canvas.width, canvas.height), { data } = picture;
  for (let i = 0; i < data.length; i += 4) {
    const grey = 0.299 * data[i] + 0.587 * data[i + 1] + 0.114 * data[i + 2];
    data[i] = data[i + 1] = data[i + 2] = 40 + 0.8 * grey;
  }
  pen.putImageData(picture, 0, 0);
  return canvas;
}

/** Give the memory of a frame's pictures back. */
function closed(frame) {
  for (const canvas of frame.faces ?? []) canvas.width = canvas.height = 0;
}

/** A line that can be seen on light and dark alike. */
function stroke(pen, path, width, dash = []) {
  pen.setLineDash(dash);
  pen.lineWidth = width + 0.2;
  pen.strokeStyle = "rgba(0, 0, 0, .4)";
  pen.stroke(path);
  pen.lineWidth = width;
  pen.strokeStyle = "rgba(255, 255, 255, .85)";
  pen.stroke(path);
  pen.setLineDash([]);
}
