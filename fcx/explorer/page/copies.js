// Taking the view away: its numbers, the line of Python that makes it, and its picture.

const withCopies = (Base) => class extends Base {
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
    return `fcx.explore(${header.call}, ${given.map(([name, value]) => `${name}=${text(value)}`).join(", ")})`;
  }

  /** Put text into the clipboard; where the browser refuses, show it, selected. */
  async copyText(what, text) {
    const { byHand } = this, before = document.activeElement;
    byHand.hidden = true;
    try {
      await navigator.clipboard.writeText(text);
    } catch {
      Object.assign(byHand, { hidden: false, value: text });
      byHand.select();
      if (!document.execCommand("copy"))
        return this.say("The browser does not allow copying: the text above is selected, press Ctrl (or ⌘) and C.");
      byHand.hidden = true;
      before.focus();
    }
    this.say(`${what} can be pasted now.`);
  }

  async copyPicture() {
    const drawn = new Promise((resolve) => this.portrait().toBlob(resolve, "image/png"));
    try {
      // A promise: some browsers allow copying only at once after the click.
      await navigator.clipboard.write([new ClipboardItem({ "image/png": drawn })]);
      this.say("The picture can be pasted now.");
    } catch {
      const link = make("a", { href: URL.createObjectURL(await drawn), download: "fcx-explorer.png" });
      link.click();
      setTimeout(() => URL.revokeObjectURL(link.href), 10000);
      this.say("The picture was saved as fcx-explorer.png: the browser does not allow copying it.");
    }
  }

  /** The view as one picture: the panels with their captions, and the regions with their values. */
  portrait() {
    const { conditions, regions } = this.header, { quantity } = this.view, rows = this.rows(), series = this.series();
    const numbers = regions.map((region, r) => [region, series.map(({ model, c }) => [this.value(model, c, r), this.mean(model, c, r).mean])]);
    if (this.own?.length === series.length)
      numbers.push(["drawn region", this.own.map((own) => [own[quantity], own.mean?.[quantity]])]);
    const side = 300, gap = 16, top = 76, line = 22, wide = conditions.length * (side + gap);
    const write = WRITE[quantity] ?? brief;
    const height = Math.max(top + rows.length * (side + 48), top + line * (numbers.length + 2)) + 16;
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
    put(`${HEADS[quantity] ?? quantity}: this face (all)`, left, top - 8, "600 14px");
    series.forEach(({ model, condition }, i) => {
      put(this.header.models[model].title, left + 120 + 110 * i, top + 12, "12px");
      put(condition, left + 120 + 110 * i, top + 26, "12px");
    });
    numbers.forEach(([region, values], r) => {
      const y = top + line * (r + 2) + 6;
      put(region, left, y);
      values.forEach(([here, all], i) => put(`${write(here)} (${write(all)})`, left + 120 + 110 * i, y, "13px"));
    });
    return canvas;
  }
};
