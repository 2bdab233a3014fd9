// Returns what is wrong with the page on paper, as JSON; the media are emulated, and a sheet is A4 with its margins.
(async () => {
  const SHEET = 1009, wrong = [];
  dispatchEvent(new Event('beforeprint'));
  await Promise.all([...document.querySelectorAll('.plotly-graph-div')].map(plot => plot.ready));
  for (const figure of document.querySelectorAll('figure')) {
    const name = figure.querySelector('[id]')?.id, height = figure.getBoundingClientRect().height;
    if (getComputedStyle(figure).breakInside !== 'avoid') wrong.push(`figure ${name} may be split`);
    if (height > SHEET) wrong.push(`figure ${name} is ${Math.round(height)} pixels high, a sheet ${SHEET}`);
  }
  const first = document.querySelector('.opening ~ figure, figure')?.getBoundingClientRect().bottom + scrollY;
  if (first > SHEET) wrong.push(`the first figure ends at pixel ${Math.round(first)}, the first sheet at ${SHEET}`);
  const shown = selector => [...document.querySelectorAll(selector)].some(e => e.getBoundingClientRect().height > 0);
  if (shown('.modebar')) wrong.push('the toolbar of figures is printed');
  if (shown('nav.pages, .contents, details.code')) wrong.push('what is for the screen is printed');
  if (document.querySelector('details.provenance[open]')) wrong.push('the provenance is printed unfolded');
  dispatchEvent(new Event('afterprint'));
  return JSON.stringify(wrong);
})()
