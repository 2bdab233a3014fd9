// Shapes and pictures: symbols of networks, regions of the grid and what lies in them, faces under maps.

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

function symbolOf(model, filled, r = 5) {
  return make("path", {
    d: symbolPath(model.symbol, r), stroke: model.colour, "stroke-width": 1.8,
    fill: filled ? model.colour : "none", class: "fx-symbol",
  });
}

/** The quantile of magnitudes that colours end at; a network that lacks the target has no map. */
function limitOf(maps) {
  const all = Float32Array.from(maps.flatMap((map) => Array.from(map)), Math.abs).filter(Number.isFinite).sort();
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

/** A square canvas of `side` pixels, and its pen. */
function sheetOf(side) {
  const canvas = document.createElement("canvas");
  Object.assign(canvas, { width: side, height: side });
  return [canvas, canvas.getContext("2d", { willReadFrequently: true })];
}

/** A face as it lies under a map: the grey of each pixel, lifted so that a map can be seen over dark parts. */
function lifted(grey) {
  const side = Math.sqrt(grey.length), [canvas, pen] = sheetOf(side), picture = new ImageData(side, side);
  grey.forEach((value, i) => {
    picture.data.fill(40 + 0.8 * value, 4 * i, 4 * i + 3);
    picture.data[4 * i + 3] = 255;
  });
  pen.putImageData(picture, 0, 0);
  return canvas;
}

/** The same of a grey picture in a file. */
async function greyed(blob) {
  const bitmap = await createImageBitmap(blob), [, pen] = sheetOf(bitmap.width);
  pen.drawImage(bitmap, 0, 0);
  const { data } = pen.getImageData(0, 0, bitmap.width, bitmap.width);
  bitmap.close();
  return lifted(data.filter((_, i) => i % 4 === 0));
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
