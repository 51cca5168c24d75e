// What was pinned: beside each other, and how each is computed again.

const pins = [];

const samePlace = (a, b) => ["facet", "row", "group", "index", "target", "view", "cell"].every((key) => a[key] === b[key]);

/** Pins a place, or takes its pin away. */
function togglePin(at) {
  const known = pins.findIndex((pin) => samePlace(pin, at));
  if (known >= 0) pins.splice(known, 1);
  else pins.push(at);
  say(known >= 0 ? "no longer pinned" : `pinned ${inWords(at)}`);
  pinsChanged();
}

function clearPins() {
  pins.length = 0;
  pinsChanged();
}

function pinsChanged() {
  drawPins();
  grids.figures.forEach(drawMarks);
  if (graph.canvas) paintGraph();
}

/** What a pin is called where several stand together. */
function pinName(at) {
  const words = [inWords(at)];
  if (about.targets.length > 1 && about.kind !== "attention") words.push(about.targets[at.target]);
  if (about.views.length > 1) words.push(about.views[at.view].label);
  return words.join(" · ");
}

function drawPins() {
  const section = the("pins");
  if (!pins.length) {
    section.replaceChildren(make("p", { className: "hint" }, `Click ${about.kind === "edges" ? "an edge" : "a cell"} (or Enter) to pin it: pins are compared, and say how to compute them again.`));
    return;
  }
  const clear = make("button", { type: "button", className: "unpin" }, "clear");
  clear.addEventListener("click", clearPins);
  const shown = about.values[state.value].name;
  const known = changesKnown[state.value];
  const others = about.values.map((column, value) => [column.name, value]).filter(([, value]) => value !== state.value);
  const heads = ["", "pinned", ...(known ? ["base"] : []), shown, ...(known ? ["change"] : []), ...(pins.length > 1 ? ["− first"] : []), ...others.map(([name]) => name)];
  const first = pins[0];
  const body = pins.map((at) => {
    const x = number(at.view, state.value, at.target, at.cell);
    const base = baseOf(at.view, state.value, at.target, at.cell);
    const away = make("button", { type: "button", className: "unpin", title: "unpin" }, "×");
    away.setAttribute("aria-label", `unpin ${pinName(at)}`);
    away.addEventListener("click", () => togglePin(at));
    const cells = [
      ...(known ? [plain(base)] : []), plain(x), ...(known ? [signed(x - base)] : []),
      ...(pins.length > 1 ? [at === first ? "" : signed(x - number(first.view, state.value, first.target, first.cell))] : []),
      ...others.map(([, value]) => plain(number(at.view, value, at.target, at.cell))),
    ];
    return make("tr", {}, make("td", {}, away), make("td", {}, pinName(at)), ...cells.map((text) => make("td", { className: "number" }, text)));
  });
  const head = make("tr", {}, ...heads.map((name, i) => make("th", { className: i > 1 ? "number" : "" }, name)));
  const table = make("table", {}, make("thead", {}, head), make("tbody", {}, ...body));
  section.replaceChildren(make("h2", {}, "pinned ", clear), make("div", { className: "scrolled" }, table), ...pins.map(rerunOf));
}

/** The lines that compute a pinned cell again. */
function rerunOf(at) {
  const lines = linesOf(at);
  // what was estimated is run
  const estimated = about.kind !== "attention" && about.values.some((column) => column.name === "score");
  const box = make("div", { className: "rerun" }, make("div", { className: "hint" }, `${estimated ? "exactly" : "again"}: ${inWords(at)}`));
  if (!lines.length) box.append(make("div", { className: "hint" }, "no single command runs this cell"));
  for (const [name, line] of lines) {
    const code = make("code", { title: name }, line);
    const copy = make("button", { type: "button" }, "copy");
    copy.setAttribute("aria-label", `copy the ${name} line`);
    copy.addEventListener("click", () => copyText(code, copy));
    box.append(make("div", { className: "line" }, code, copy));
  }
  return box;
}

/** Copies an element's text, by whichever way the browser allows for a file. */
async function copyText(element, button) {
  let done = false;
  try {
    await navigator.clipboard.writeText(element.textContent);
    done = true;
  } catch {
    getSelection().selectAllChildren(element);
    done = document.execCommand("copy");
  }
  button.textContent = done ? "copied" : "select and copy";
}

