// What the page embeds, and how a number is found in it.

const about = JSON.parse(document.getElementById("about").textContent);
// a graph has none
about.facets ??= [];

/** The bytes of an element's base64. */
function embedded(id) {
  const element = document.getElementById(id);
  const text = atob(element.textContent);
  const bytes = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
  // the text is not needed twice
  element.textContent = "";
  return bytes.buffer;
}

const numbers = {
  cells: new Float32Array(embedded("cells")),
  bases: new Float32Array(embedded("bases")),
  edges: new Uint32Array(embedded("edges")),
};

/** Whether the first view is the mean over pairs, of which each cell has a base of its own. */
const hasMean = numbers.bases.length > 0;

/** Where the numbers of a view, a column and a target begin. */
function start(view, value, target) {
  const column = about.values[value];
  const own = column.targets > 1 ? target : 0;
  return view * about.stride + column.offset + own * about.cells;
}

/** A number, NaN where nothing was run. */
function number(view, value, target, cell) {
  return numbers.cells[start(view, value, target) + cell];
}

/** What the clean base has of the same, NaN where that is not known. */
function baseOf(view, value, target, cell) {
  const column = about.values[value];
  if (hasMean && view === 0) {
    const own = column.targets > 1 ? target : 0;
    return numbers.bases[column.offset + own * about.cells + cell];
  }
  return cleanOf(view, value, target)[0];
}

/** Base and source of a view that is one pair; of the mean, those of the pairs that are here. */
function cleanOf(view, value, target) {
  if (about.kind === "attention") return [NaN, NaN];
  const own = about.values[value].targets > 1 ? target : 0;
  const ends = (of) => of.clean[value]?.[own] ?? [null, null];
  const pairs = hasMean && view === 0 ? about.views.slice(1) : [about.views[view]];
  return [0, 1].map((end) => {
    const known = pairs.map((pair) => ends(pair)[end]);
    if (known.some((x) => x === null)) return NaN;
    return known.reduce((sum, x) => sum + x, 0) / known.length;
  });
}

/** Whether a change from the base is known of a column. */
const changesKnown = about.values.map((column, value) =>
  about.views.some((_, view) => Number.isFinite(cleanOf(view, value, 0)[0])));

/** A number as running text has it, about four digits. */
function plain(x) {
  if (Number.isNaN(x)) return "–";
  if (!Number.isFinite(x)) return x > 0 ? "∞" : "−∞";
  if (x === 0) return "0";
  const size = Math.abs(x);
  const sign = x < 0 ? "−" : "";
  if (size < 0.001 || size >= 10000) return sign + size.toExponential(2);
  return sign + (size < 10 ? size.toFixed(4) : size.toFixed(1));
}

/** A change, with its sign. */
function signed(x) {
  return x > 0 ? "+" + plain(x) : plain(x);
}

/** A number as a file has it: the shortest text that reads back to the same f32. */
function exact(x) {
  if (Number.isNaN(x)) return "";
  for (let digits = 6; digits < 10; digits++) {
    const text = Number(x.toPrecision(digits));
    if (Math.fround(text) === x) return String(text);
  }
  return String(x);
}

/** An element with properties and children; text stays text. */
function make(name, properties = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(properties)) {
    if (key in element && key !== "list") element[key] = value;
    else element.setAttribute(key, value);
  }
  element.append(...children);
  return element;
}

/** An element of the page by its id. */
const the = (id) => document.getElementById(id);

