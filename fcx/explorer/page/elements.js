// Elements of the page, and how numbers are written in them.

const SVG = "http://www.w3.org/2000/svg";

/** An element; what takes the focus keeps its keys from the notebook. */
function make(tag, attributes = {}, ...children) {
  const space = ["svg", "g", "path", "line", "rect", "circle", "text"].includes(tag);
  const element = space ? document.createElementNS(SVG, tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value != null) element.setAttribute(name, value);
  }
  if ("tabindex" in attributes || ["button", "select", "input", "summary"].includes(tag))
    element.setAttribute("data-lm-suppress-shortcuts", "true");
  element.append(...children.filter((child) => child != null));
  return element;
}

const missing = (value) => value == null || Number.isNaN(value);
const endless = (value) => (value < 0 ? "−∞" : "∞"); // log2 of a region without any attribution
const signed = (value) => missing(value) ? "–" : !Number.isFinite(value) ? endless(value)
  : (value.toFixed(2) === "0.00" || value.toFixed(2) === "-0.00" ? "" : value < 0 ? "−" : "+") + Math.abs(value).toFixed(2);
const percent = (value) => (missing(value) ? "–" : `${(100 * value).toFixed(1)} %`);
const brief = (value) => (missing(value) ? "–" : value === 0 ? "0" : value.toPrecision(2).replace("-", "−"));
const WRITE = { share: percent, enrichment: signed, net: brief };
const HEADS = {
  share: "share of the attribution",
  enrichment: "times its area, log2",
  net: "net attribution",
};

/** A part that keys can scroll where it is too narrow. */
function scrolled(name, content) {
  return make("div", { class: "fx-scroll", role: "group", "aria-label": name, tabindex: 0 }, content);
}

let lastName = 0;
const unique = () => `fx-${Date.now().toString(36)}-${(lastName += 1)}`;
