// Choosing a face: the strip of thumbnails, and the plane of valence and arousal.

const THUMB_STEP = 60; // pixels from one thumbnail to the next
const ascending = (a, b) => a - b;
const within = (brush, spot) => ["valence", "arousal"].every((name) =>
  spot[name] != null && spot[name] >= brush[name][0] && spot[name] <= brush[name][1]);

const withFaces = (Base) => class extends Base {
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
        const mark = symbolOf(model, c === 0);
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

  /** The predictions: an output a column, or a row where there are more outputs than networks and conditions. */
  showAnswers(face) {
    const { models, conditions, targets } = this.header;
    const symbol = (model) => make("svg", { width: 14, height: 14, viewBox: "-7 -7 14 14", "aria-hidden": "true" }, symbolOf(model, true, 4.5));
    const cell = (value) => make("td", { class: "fx-n", "data-value": value ?? "" }, signed(value));
    const head = (scope, extra, ...words) => make("th", { scope, ...extra }, ...words);
    const named = (model, shown = true) => [shown ? symbol(model) : "", make("span", { class: shown ? "" : "fx-hidden" }, model.title)];
    const places = models.flatMap((model, m) => conditions.map((condition, c) => ({ model, m, condition, c })));
    const caption = make("caption", {}, `Predictions (${["filled", "open"].slice(0, conditions.length).map((word, c) =>
      `${word}: ${conditions[c]}`).join(", ")})${face.valence == null ? "" : "; the cross is the label"}`);
    if (targets.length > places.length) {
      const labels = targets.some((target) => face[target] != null);
      const rows = targets.map((target) => make("tr", {}, head("row", {}, target), ...(labels ? [cell(face[target])] : []),
        ...places.map(({ m, c }) => cell(this.prediction(m, c, target)))));
      return this.answers.replaceChildren(caption,
        make("thead", {},
          make("tr", {}, make("td", {}), ...(labels ? [make("td", {})] : []), ...models.map((model) =>
            head("colgroup", { class: "fx-model fx-n", colspan: conditions.length }, ...named(model)))),
          make("tr", {}, make("td", {}), ...(labels ? [head("col", { class: "fx-n" }, "label")] : []), ...places.map(({ condition }) =>
            head("col", { class: "fx-n" }, condition)))),
        make("tbody", {}, ...rows));
    }
    const rows = places.map(({ model, m, condition, c }) => make("tr", { "data-model": model.name, "data-condition": condition },
      head("row", { class: "fx-model" }, ...named(model, !c)),
      make("td", {}, condition), ...targets.map((target) => cell(this.prediction(m, c, target)))));
    this.answers.replaceChildren(caption,
      make("thead", {}, make("tr", {}, make("td", {}), make("td", {}), ...targets.map((name) => head("col", { class: "fx-n" }, name)))),
      make("tbody", {}, make("tr", {}, head("row", {}, "label"), make("td", {}), ...targets.map((target) => cell(face[target]))), ...rows));
  }
};
