// Maps over faces, their key, and the region under the pointer.

const PANEL = 384; // pixels of a canvas
const STRENGTH = 0.6; // how fast a map becomes opaque: |value| to this power

const withPictures = (Base) => class extends Base {
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
        const at = 4 * (y * columns + x);
        for (let channel = 0; channel < 3; channel++) picture.data[at + channel] = colours[place][channel];
        picture.data[at + 3] = 255 * this.view.opacity * Math.abs(value) ** STRENGTH;
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

  // -- the region under the pointer --

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
};
