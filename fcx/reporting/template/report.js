// Draws the figures of a page: in the reader's light or dark, laid anew where the page is narrow, light on paper.
(() => {
  const NARROW = 700, TOOLBAR = 28, LINE = 19;
  const PAPER = {width: 680, panels: 960, height: 820, table: 670, letters: 11.3};
  const {config: CONFIG, dark: SWAPS} = JSON.parse(document.getElementById('settings').textContent);
  const dark = matchMedia('(prefers-color-scheme: dark)');
  let printing = false;

  function read(div) {
    let text = document.getElementById(`${div.id}-data`).textContent;
    if (dark.matches && !printing) for (const [light, other] of Object.entries(SWAPS))
      text = text.replaceAll(`"${light}"`, `"${other}"`);
    return JSON.parse(text);
  }

  const axes = (layout, letter) => Object.keys(layout).filter(key => new RegExp(`^${letter}axis\\d*$`).test(key));
  const axisOf = reference => reference.replace(/^[xy]/, letter => `${letter}axis`);

  // The panels of a figure, row by row: their axes and where they stand.
  function panels({data, layout}) {
    const pairs = new Map(data.map(trace => [`${trace.xaxis || 'x'} ${trace.yaxis || 'y'}`, trace]));
    const found = [...pairs.values()].map(trace => {
      const x = axisOf(trace.xaxis || 'x'), y = axisOf(trace.yaxis || 'y');
      return {x, y, across: layout[x]?.domain || [0, 1], up: layout[y]?.domain || [0, 1]};
    });
    return found.sort((a, b) => b.up[0] - a.up[0] || a.across[0] - b.across[0]);
  }

  // Words in lines of so many letters.
  function lines(text, letters) {
    const all = [];
    for (const word of String(text).replaceAll('<br>', ' ').split(' '))
      if (all.length && (all.at(-1) + ' ' + word).length <= letters) all[all.length - 1] += ' ' + word;
      else all.push(word);
    return all;
  }

  // Names of rows in lines that leave room for what is drawn; returns the pixels that a row then needs.
  function wrap(axis, width) {
    const names = (axis.ticktext || []).map(name => lines(name, Math.max(15, (width - 240) / 10)));
    if (names.length) axis.ticktext = names.map(each => each.join('<br>'));
    return Math.max(1, ...names.map(each => each.length)) * LINE + 8;
  }

  // Sets panels that stood side by side one beneath another, each with the words over it.
  function stack(layout, parts, room) {
    const heights = parts.map(part => part.height), gap = 96;
    const total = heights.reduce((sum, height) => sum + height, 0) + gap * (parts.length - 1);
    let top = total;
    for (const part of parts) {
      const title = (layout.annotations || []).find(a => a.xref === 'paper' && a.yref === 'paper' && !a.stood
        && Math.abs(a.x - (part.across[0] + part.across[1]) / 2) < .01 && Math.abs(a.y - part.up[1]) < .01);
      layout[part.x] = {...layout[part.x], domain: [0, 1], anchor: part.y.replace('axis', ''), showticklabels: true};
      layout[part.y] = {...layout[part.y], domain: [(top - part.height) / total, top / total],
        anchor: part.x.replace('axis', ''), showticklabels: true};
      if (title) Object.assign(title, {x: 0, xanchor: 'left', y: top / total, stood: true});
      top -= part.height + gap;
    }
    return total;
  }

  // Lays a figure out for a width: the title stands in the page, the legend above the panels, or below on a phone.
  function fit(figure, width) {
    const {layout} = figure, narrow = width < NARROW, meta = layout.meta || {};
    const above = 40 + 26 * (String(layout.title?.text).split('<br>').length - 1);
    delete layout.title;
    if (layout.width) {  // pictures keep their size, and scroll
      layout.margin.t -= above; layout.height -= above;
      layout.legend = {...layout.legend, y: 1};
      return figure;
    }
    const margin = {l: 20, r: 24, t: 120, b: 60, ...(layout.template?.layout?.margin || {}), ...(layout.margin || {})};
    const parts = panels(figure), plot = (layout.height || 450) - margin.t - margin.b;
    const columns = new Set(parts.map(part => part.across[0])).size, rows = new Set(parts.map(part => part.up[0])).size;
    let height = plot;
    for (const part of parts) part.height = (part.up[1] - part.up[0]) * plot;
    if (narrow) {
      Object.assign(layout, {dragmode: false, font: {size: 13}});
      for (const annotation of layout.annotations || []) annotation.font = {...annotation.font, size: 14};
      const wrapped = {};
      for (const key of axes(layout, 'y')) {
        wrapped[key] = (layout[key].ticktext?.length || 0) * wrap(layout[key], width);
      }
      for (const key of axes(layout, 'x'))
        if (layout[key].title?.text) {
          const words = lines(layout[key].title.text, (width - 140) / 8);
          layout[key].title.text = words.join('<br>');
          margin.b = Math.max(margin.b, 40 + 20 * words.length);
        }
      const least = meta.least_width || (columns > 1 && rows > 1 && columns > 2 ? 90 + 190 * columns : 0);
      if (least > width) layout.width = least;
      else if (columns > 1) {
        for (const part of parts) part.height = Math.max(part.height, wrapped[part.y], 200);
        height = stack(layout, parts);
      } else {
        const taller = Math.max(1, ...parts.map(part => (wrapped[part.y] || 0) / part.height));
        height = plot * taller;
      }
    }
    const titled = (layout.annotations || []).some(a => a.yref === 'paper' && a.y > .99);
    // Without a legend, words over panels stand where the toolbar comes: it gets a line of its own.
    figure.room = {plot: height, top: titled ? 34 : 14, bar: titled && !narrow && !printing ? TOOLBAR : 0, bottom: margin.b, narrow};
    layout.autosize = !layout.width;
    place(layout, figure.room, 0);
    return figure;
  }

  // Gives the legend its height in pixels: above the panels, or below them on a phone.
  function place(layout, room, legend) {
    const space = legend && legend + 14;
    const [above, below] = room.narrow ? [0, space] : [space || room.bar, 0];
    layout.margin = {...layout.margin, t: room.top + above, b: room.bottom + below};
    layout.height = room.plot + layout.margin.t + layout.margin.b;
    layout.legend = {...layout.legend, orientation: 'h', x: 0, xanchor: 'left', xref: 'container', yref: 'container',
      y: room.narrow ? 0 : 1, yanchor: room.narrow ? 'bottom' : 'top'};
  }

  // One drawing of a figure at a time: Plotly never ends where two of them meet. What waits is done before a page is
  // printed, because Plotly's own promises need no time.
  const draw = div => { div.ready = (div.ready || Promise.resolve()).then(() => drawNow(div)); return div.ready; };

  async function drawNow(div) {
    const box = div.parentElement, room = printing ? PAPER.width : box.clientWidth;
    if (!room) return;  // folded away: drawn when it is opened
    const state = `${room} ${dark.matches} ${printing}`;
    if (div.dataset.drawn === state) return;
    div.dataset.drawn = state;
    const drawing = read(div), columns = new Set(panels(drawing).map(part => part.across[0])).size;
    // Panels that stand side by side are printed so, smaller: one beneath another they would fill a sheet.
    const width = printing && columns > 1 ? PAPER.panels : room;
    const figure = fit(drawing, width), {layout} = figure;
    if (!layout.width) layout.width = width;
    layout.autosize = false;
    const config = {...CONFIG, responsive: false, displayModeBar: width < NARROW || printing ? false : 'hover'};
    await Plotly.react(div, figure.data, layout, config);
    const legend = div.querySelector('.legend .bg')?.getBBox().height || 0;
    if (figure.room && legend) {
      place(layout, figure.room, legend);
      await Plotly.react(div, figure.data, layout, config);
    }
    const scale = printing ? Math.min(1, PAPER.width / layout.width, PAPER.height / layout.height) : 1;
    div.style.zoom = scale;
    describe(div, box);
  }

  // For those who do not see it: one picture with a text; nothing in it but a frame that scrolls takes the focus.
  function describe(div, box) {
    div.querySelectorAll('svg.main-svg').forEach((svg, number) => {
      if (number) return svg.setAttribute('aria-hidden', 'true');
      svg.setAttribute('role', 'img');
      svg.setAttribute('aria-label', box.closest('figure').getAttribute('aria-label'));
    });
    div.querySelectorAll('.modebar *').forEach(part => part.setAttribute('tabindex', '-1'));
    reach(box);
  }

  function reach(box) {
    if (box.scrollWidth > box.clientWidth + 1) Object.assign(box, {tabIndex: 0});
    else box.removeAttribute('tabindex');
  }

  const reachAll = () => document.querySelectorAll('.wide, pre').forEach(reach);
  const all = (root = document) => Promise.all([...root.querySelectorAll('.plotly-graph-div')].map(draw));
  let later;
  const again = () => { clearTimeout(later); later = setTimeout(() => { all(); reachAll(); }, 120); };
  // Tables that are too wide for a sheet are printed smaller: the browser would shrink all pages instead.
  const fitTable = table => {
    Object.assign(table.style, {zoom: '', width: printing ? 'min-content' : ''});
    const least = table.offsetWidth * PAPER.letters / parseFloat(getComputedStyle(table).fontSize);
    Object.assign(table.style, {zoom: printing && least > PAPER.table ? PAPER.table / least : '', width: ''});
  };
  function paper(on) {
    printing = on;
    document.querySelectorAll('details.part').forEach(part => {
      if (on) { part.dataset.was = part.open; part.open = true; } else part.open = part.dataset.was === 'true';
    });
    document.querySelectorAll('.wide > table').forEach(fitTable);
    all();
  }
  addEventListener('resize', again);
  addEventListener('beforeprint', () => paper(true));
  addEventListener('afterprint', () => paper(false));
  dark.addEventListener('change', () => all());
  document.addEventListener('toggle', event => {
    all(event.target);
    reachAll();
  }, true);
  reachAll();
  const contents = document.querySelector('details.contents');
  if (contents && matchMedia('(min-width: 1240px)').matches) contents.open = true;
  all();
})();
