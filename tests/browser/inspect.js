// Returns null until every figure is drawn, then what is wrong with the page at this width, as JSON.
(async () => {
  const plots = [...document.querySelectorAll('.plotly-graph-div')];
  document.querySelectorAll('details.part, details.fold').forEach(part => { part.open = true; });
  if (document.readyState !== 'complete' || plots.some(p => !p._fullLayout || !p.querySelector('svg.main-svg')))
    return null;
  await Promise.all(plots.map(plot => plot.ready));
  const wrong = [], root = document.documentElement, words = text => text.trim().slice(0, 30);
  if (!root.lang) wrong.push('the page names no language');
  if (!document.title.trim()) wrong.push('the page has no title');
  const heads = document.querySelectorAll('h1').length;
  if (heads !== 1) wrong.push(`${heads} h1 headings instead of one`);
  if (root.scrollWidth > innerWidth + 1) {
    const wide = [...document.body.querySelectorAll('*')].find(e => e.getBoundingClientRect().right > innerWidth + 1);
    wrong.push(`the page is ${root.scrollWidth} pixels wide (${wide?.tagName} ${wide?.className})`);
  }
  for (const plot of plots) {
    const name = plot.id, box = plot.getBoundingClientRect(), figure = plot.closest('figure');
    if (box.width < 50 || box.height < 50) wrong.push(`figure ${name} has no size`);
    const marks = [...plot.querySelectorAll('.scatterlayer .trace *, .boxlayer .trace *, .barlayer .trace *, '
      + '.heatmaplayer *, .imagelayer image')].filter(m => { const b = m.getBoundingClientRect();
      return b.width + b.height > 0; });
    if (!marks.length) wrong.push(`figure ${name} is empty`);
    if (!figure || !(figure.getAttribute('aria-label') || '').trim()) wrong.push(`figure ${name} has no text`);
    for (const image of plot.querySelectorAll('image')) {
      const probe = new Image(); probe.src = image.getAttribute('href') || image.getAttribute('xlink:href');
      try { await probe.decode(); } catch (error) { wrong.push(`figure ${name}: a picture does not decode`); }
    }
    const frame = plot.querySelector('svg.main-svg').getBoundingClientRect();
    const texts = [...plot.querySelectorAll('svg.main-svg text')].filter(t => words(t.textContent)
      && !t.closest('.hoverlayer')).map(t => [words(t.textContent), t.getBoundingClientRect()]).filter(([, b]) => b.width);
    for (const [text, b] of texts)
      if (b.left < frame.left - 1 || b.right > frame.right + 1 || b.top < frame.top - 1 || b.bottom > frame.bottom + 1)
        wrong.push(`figure ${name}: "${text}" is cut`);
    texts.forEach(([text, a], at) => { for (const [other, b] of texts.slice(at + 1))
      if (Math.min(a.right, b.right) - Math.max(a.left, b.left) > 1
          && Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top) > 2)
        wrong.push(`figure ${name}: "${text}" overlaps "${other}"`); });
  }
  for (const image of document.querySelectorAll('img'))
    if (!(image.alt || image.closest('[role="img"]')?.ariaLabel || '').trim()) wrong.push('an img has no alt text');
  return JSON.stringify({wrong: [...new Set(wrong)], figures: plots.length});
})()
