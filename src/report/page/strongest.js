// The strongest cells of what is shown, as a table that sorts.

const MOST = 200;
const strongest = { rows: [], by: "change", descending: true };

/** The cells of the shown panels that are furthest from the base. */
function findStrongest() {
  if (about.kind === "edges") {
    const target = Math.max(0, state.target);
    return graph.order.slice(0, MOST).map((edge) => rowOf(edgePlace(edge), target));
  }
  let found = [];
  let least = 0;
  const keep = () => {
    found.sort((a, b) => b.size - a.size);
    found.length = Math.min(found.length, MOST);
    least = found.length === MOST ? found[MOST - 1].size : 0;
  };
  const change = state.mode === "change";
  const own = hasMean && state.view === 0;
  for (const panel of grids.panels) {
    const { values, shape, target } = panel;
    const flat = change || own ? 0 : baseOf(state.view, state.value, target, 0);
    const from = Number.isNaN(flat) ? 0 : flat;
    for (let i = 0; i < values.length; i++) {
      let size = values[i] - from;
      if (own && !change) {
        const at = placeOf(panel, Math.floor(i / shape.columns), i % shape.columns);
        size = changeOf(at.view, state.value, target, at.cell);
      }
      if (size < 0) size = -size;
      if (size > least && size < Infinity) {
        found.push({ size, panel, i });
        if (found.length >= 4 * MOST) keep();
      }
    }
  }
  keep();
  return found.map(({ panel, i }) => rowOf(placeOf(panel, Math.floor(i / panel.shape.columns), i % panel.shape.columns), panel.target));
}

function rowOf(at, target) {
  const value = number(at.view, state.value, target, at.cell);
  const base = baseOf(at.view, state.value, target, at.cell);
  const change = Number.isNaN(base) ? value : value - base;
  return { at, site: at.site, layer: at.layer ?? -1, head: at.head ?? -1, position: at.position ?? -1, target, base, value, change };
}

/** The columns that say something here: key, heading, and what a row has. */
function strongestColumns() {
  const known = changesKnown[state.value];
  const attention = about.kind === "attention";
  const where = about.kind === "edges"
    ? [["site", "edge", (row) => row.site], ...(about.graph.positions ? [["position", "position", (row) => `${row.at.position} ${row.at.token}`]] : [])]
    : attention
      ? [["row", "query", (row) => `${row.at.facet.rows.length - 1 - row.at.row} ${row.at.facet.rows[row.at.row].label}`], ["position", "key", (row) => `${row.at.position} ${row.at.token}`]]
      : [["site", "site", (row) => row.site],
        ...(strongest.rows.some((row) => row.head >= 0) ? [["head", "head", (row) => (row.head < 0 ? "–" : String(row.head))]] : []),
        ["position", "position", (row) => positionOf(row.at) || "–"]];
  const target = about.values[state.value].targets > 1 && about.kind !== "edges" ? [["target", "target", (row) => about.targets[row.target]]] : [];
  const values = known
    ? [["base", "base", (row) => plain(row.base), 1], ["value", "patched", (row) => plain(row.value), 1], ["change", "change", (row) => signed(row.change), 1]]
    : [["change", about.values[state.value].name, (row) => plain(row.value), 1]];
  return [...where, ...target, ...values];
}

function drawStrongest() {
  strongest.rows = findStrongest();
  fillStrongest();
}

function fillStrongest() {
  const columns = strongestColumns();
  const key = (row) => (strongest.by === "change" ? Math.abs(row.change) : strongest.by === "site" ? row.site : strongest.by === "row" ? -row.at.row : row[strongest.by]);
  const compare = (a, b) => {
    const [x, y] = [key(a), key(b)];
    return typeof x === "string" ? x.localeCompare(y, undefined, { numeric: true }) : x - y;
  };
  strongest.rows.sort((a, b) => (strongest.descending ? compare(b, a) : compare(a, b)));
  const heads = columns.map(([name, label, , right]) => {
    const sorts = make("button", { type: "button" }, label);
    const chosen = strongest.by === name;
    if (chosen) sorts.append(strongest.descending ? " ↓" : " ↑");
    sorts.addEventListener("click", () => {
      strongest.descending = chosen ? !strongest.descending : ["change", "value", "base"].includes(name);
      strongest.by = name;
      fillStrongest();
      the("strongest").querySelectorAll("th button")[columns.findIndex((column) => column[0] === name)]?.focus();
    });
    const head = make("th", { className: right ? "number" : "", scope: "col" }, sorts);
    if (chosen) head.setAttribute("aria-sort", strongest.descending ? "descending" : "ascending");
    return head;
  });
  const lines = strongest.rows.map((row) => {
    const cells = columns.map(([name, , text, right]) => make("td", { className: right ? "number" : "" }, text(row)));
    const line = make("tr", { tabIndex: 0 }, ...cells);
    line.addEventListener("click", () => togglePin(row.at));
    line.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" && event.key !== " ") return;
      event.preventDefault();
      togglePin(row.at);
    });
    return line;
  });
  const count = strongest.rows.length === MOST ? `the ${MOST} strongest` : "strongest";
  const what = changesKnown[state.value] ? ` changes of ${longName()}` : `, by ${longName()}`;
  const table = make("table", {}, make("thead", {}, make("tr", {}, ...heads)), make("tbody", {}, ...lines));
  const heading = make("h2", {}, count + what);
  the("strongest").replaceChildren(heading, lines.length ? make("div", { className: "scrolled" }, table) : make("p", { className: "hint" }, "nothing moved"));
}

