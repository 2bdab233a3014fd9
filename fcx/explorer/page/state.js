// What is shown: the view, the frames of faces in memory, and the numbers in them.

const KEPT = 48; // frames in memory

class State {
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
    this.followMask();
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
    this.followMask();
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
}
