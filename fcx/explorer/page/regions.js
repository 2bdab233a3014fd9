// Bars of regions, and a region of one's own.

const withRegions = (Base) => class extends Base {
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
        width: `${Math.abs(at(value) - at(0))}%`, height: 9, fill: colour, class: c ? "fx-bar fx-open" : "fx-bar",
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
};
