// Switches, and the keys that are theirs.

/** The switches: what each changes, in which steps, and by which key. */
const switches = [];

function addSwitch(name, key, options, current, pick) {
  if (options.length < 2) return;
  const select = make("select", {}, ...options.map(([value, label]) => make("option", { value: String(value) }, label)));
  select.id = `choose-${name}`;
  select.addEventListener("change", () => pick(options[select.selectedIndex][0]));
  the("controls").append(make("label", { title: `key ${key}` }, name, select));
  const turn = (by) => {
    const at = options.findIndex(([value]) => value === current());
    const next = options[(at + by + options.length) % options.length];
    pick(next[0]);
    say(`${name}: ${next[1]}`);
  };
  switches.push({ key, turn, refresh: () => (select.selectedIndex = options.findIndex(([value]) => value === current())) });
}

function addButton(label, key, title, press, pressed) {
  const button = make("button", { type: "button", title: key ? `${title} (key ${key})` : title }, label);
  button.id = `button-${title.replaceAll(" ", "-")}`;
  button.addEventListener("click", press);
  the("controls").append(button);
  if (key) switches.push({ key, turn: press, refresh: () => pressed && button.setAttribute("aria-pressed", String(pressed())) });
  return button;
}

function buildControls() {
  const kind = about.kind;
  addSwitch("metric", "m", about.values.map((column, i) => [i, column.name]), () => state.value, (value) => choose({ value }));
  if (kind === "cells" && changesKnown.some(Boolean)) {
    const change = () => choose({ mode: state.mode === "change" ? "value" : "change" });
    addButton("change", "c", "change from the base", change, () => state.mode === "change");
  }
  const targets = about.targets.map((name, i) => [i, name]);
  if (about.values.some((column) => column.targets > 1)) {
    addSwitch("target", "t", kind === "edges" ? targets : [[-1, "all"], ...targets], () => (kind === "edges" ? Math.max(0, state.target) : state.target), (target) => choose({ target }));
  }
  addSwitch(kind === "attention" ? "prompt" : "pair", "p", about.views.map((view, i) => [i, short(view.label)]), () => state.view, (view) => choose({ view }));
  if (kind === "cells") {
    const facets = about.facets.map((facet, i) => [i, facet.title]);
    addSwitch("component", "f", facets.length > 1 ? [[-1, "all"], ...facets] : [], () => state.facet, (facet) => choose({ facet }));
    const heads = [...new Set(about.facets.flatMap((facet) => (facet.heads.length > 1 ? facet.heads : [])))];
    if (heads.length) addSwitch("head", "h", [["all", "all"], ["strongest", "strongest"], ...heads.map((head) => [head, head])], () => state.head, (head) => choose({ head }));
  } else if (kind === "attention") {
    const own = about.facets.filter((facet) => facet.view === 0);
    addSwitch("head", "h", own.map((facet, i) => [i, facet.title]), () => Math.max(0, state.facet), (facet) => choose({ facet }));
  }
  addSwitch("palette", "b", Object.entries(PALETTES).map(([name, { label }]) => [name, label]), () => state.palette, (palette) => choose({ palette }));
  addButton("dark", "d", "dark", () => choose({ dark: !state.dark }), () => state.dark);
  addButton("−", "-", "smaller", () => choose({ zoom: Math.max(0.25, state.zoom / 1.25) }));
  addButton("+", "+", "larger", () => choose({ zoom: Math.min(8, state.zoom * 1.25) }));
  addButton("PNG", null, "save PNG", savePng);
  addButton("SVG", null, "save SVG", saveSvg);
  addButton("CSV", null, "save CSV", saveCsv);
  if (kind === "edges") addButton("JSON", null, "save graph JSON", () => save("headlight.json", [graphJson()], "application/json"));
  addButton("?", "?", "keys", () => the("help").showModal());
  the("controls").addEventListener("submit", (event) => event.preventDefault());
  buildHelp();
  addEventListener("keydown", shortcut);
}

function short(text) {
  return text.length > 60 ? text.slice(0, 59) + "…" : text;
}

/** Keys that hold wherever one is, but in a field. */
function shortcut(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented) return;
  if (/^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName ?? "") || the("help").open) return;
  if (event.key === "Escape") {
    hideTip();
    return clearPins();
  }
  const found = switches.find(({ key }) => key === event.key) ?? switches.find(({ key }) => key === event.key.toLowerCase());
  if (!found) return;
  event.preventDefault();
  found.turn(event.key === found.key ? 1 : -1);
}

function buildHelp() {
  const keys = [
    ["arrows", "from cell to cell (with Shift from position to position); Home and End along a row"],
    ["Enter", "pin the cell, or take its pin away; Escape takes away all"],
    ["m", "next metric; capital M the one before, and so for the other letters"],
    ["c", "change from the base, or the value itself"],
    ["t p f h", "target, pair or prompt, component, head"],
    ["b d", "palette, dark"],
    ["+ −", "larger, smaller"],
  ];
  const rows = keys.map(([key, text]) => make("tr", {}, make("td", {}, ...key.split(" ").flatMap((k) => [make("kbd", {}, k), " "])), make("td", {}, text)));
  const close = make("button", { type: "button" }, "close");
  close.addEventListener("click", () => the("help").close());
  the("help").append(make("h2", {}, "keys"), make("table", {}, make("tbody", {}, ...rows)), make("p", {}, close));
}

