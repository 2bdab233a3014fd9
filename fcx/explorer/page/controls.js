// The page and its controls, and what all of them change.

const withControls = (Base) => class extends Base {
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
    const inPlane = [make("div", { class: "fx-name" }, "Valence and arousal"), this.buildPlane(), this.limitsField()];
    const rated = ["valence", "arousal"].every((name) => header.targets.includes(name)) ||
      header.faces.some((face) => face.valence != null && face.arousal != null);
    const plane = make("div", { class: "fx-left" }, ...(rated ? inPlane : []), scrolled("Predictions", this.answers));
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
      button("Copy Python", () => this.copyText("The line", this.python())),
      this.byHand = make("textarea", { class: "fx-by-hand", readonly: true, rows: 4, hidden: true, tabindex: 0,
        "aria-label": "To copy by hand" }));
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
    this.title.replaceChildren(make("strong", {}, face.id), `, ${[face.expression, label].filter(Boolean).join(", ")}`);
  }

  say(text) {
    this.status.textContent = text;
  }
};
