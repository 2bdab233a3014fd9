// A mask that is moved by hand: the kernel answers with picture, prediction and map.

const withMask = (Base) => class extends Base {
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
      make("button", { type: "button", onclick: () => this.moveMask(this.showMask({})) }, "As stored"),
      (this.maskText = make("p", { class: "fx-status", role: "status" })));
    this.showMask({});
    return box;
  }

  /** Put the controls of the mask where `options` say, and else where the store has them. */
  showMask(options) {
    const { controls } = this, { scale, shift, style, wearing, colour } = { ...this.header.live.stored, ...options };
    const values = { size: scale, right: shift[0], up: shift[1], style, wearing };
    for (const [name, value] of Object.entries(values)) controls[name].value = value;
    controls.own.checked = "colour" in options;
    if (controls.own.checked) controls.colour.value = colour;
  }

  /** Wear the mask that the view has, where it is another than the controls say. */
  followMask() {
    const options = this.view.mask ?? {};
    if (!this.maskText || JSON.stringify(options) === JSON.stringify(this.maskOptions())) return;
    this.showMask(options);
    this.frame(this.face, this.view.method).then(() => this.moveMask()); // not before the face is there
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
    const frame = arraysOf(this.header, answer.data, networks.length, 1), face = lifted(answer.grey);
    const { view } = this;
    if (sample !== view.sample || method !== view.method || String(networks) !== String(view.networks)) return;
    if (this.worn) closed({ faces: [this.worn.face] });
    if (answer.apart === 0) this.moved = false; // nothing differs: what is stored is shown again
    this.worn = answer.apart === 0 ? null : { frame, face, models: networks, prediction: answer.prediction, options: mask,
      condition: this.header.conditions.indexOf(this.header.live.condition) };
    this.paint();
    if (!exact) this.took = [...(this.took ?? []).slice(-199), performance.now() - started];
    this.maskText.textContent = maskWords(answer);
    if (exact) {
      view.mask = Object.keys(mask).length ? mask : null;
      this.source.keep?.({ ...view });
    }
    if (exact && this.view.region) this.measure();
  }
};

function maskWords({ exact, preview, apart }) {
  if (preview) return "Preview: the source of this face is not there, so its small picture wears the mask.";
  if (!exact) return "Moving …";
  if (apart === undefined) return "Worn on the picture as it was read again.";
  return apart === 0 ? "As stored: every number of the maps is that of the results."
    : `As stored: the maps differ from those of the results by at most ${brief(apart)}.`;
}
