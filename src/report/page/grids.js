// The grids on the screen: a figure a panel, what is pointed at, and the keys that walk through cells.

const grids = { panels: [], figures: [], size: null, scale: null, cursor: null };

/** The facets of what is chosen. */
function facetsShown() {
  const own = about.facets.filter((facet) => facet.view === undefined || facet.view === state.view);
  if (about.kind === "attention") return [own[Math.max(0, state.facet)] ?? own[0]];
  return state.facet >= 0 ? [own[state.facet]] : own;
}

/** Works out everything anew, and draws it. */
function layOut() {
  const panels = [];
  for (const facet of facetsShown()) {
    for (const target of targetsShown()) {
      const panel = panelOf(facet, target);
      if (panel.shape.columns > 0) panels.push(panel);
    }
  }
  grids.panels = panels;
  grids.scale = rangeOf(panels);
  grids.size = measures(panels);
  const empty = named("empty");
  for (const panel of panels) paint(panel, grids.scale, empty);
  const focused = grids.figures.findIndex((figure) => figure.canvas === document.activeElement);
  const scrolled = grids.figures.map((figure) => figure.scroll.scrollLeft);
  grids.figures = panels.map(figureOf);
  the("facets").replaceChildren(...grids.figures.map((figure) => figure.element));
  grids.figures.forEach((figure, i) => {
    if (scrolled[i]) figure.scroll.scrollLeft = scrolled[i];
  });
  fit();
  if (focused >= 0 && grids.figures[focused]) grids.figures[focused].canvas.focus({ preventScroll: true });
  if (grids.cursor) moveTo(grids.cursor.panel, grids.cursor.row, grids.cursor.column, false);
  drawLegend();
}

/** The scale of what is shown. */
function rangeOf(panels) {
  let [low, high] = [Infinity, -Infinity];
  const take = (x) => {
    if (x < low && x > -Infinity) low = x;
    if (x > high && x < Infinity) high = x;
  };
  for (const { values } of panels) for (let i = 0; i < values.length; i++) take(values[i]);
  const column = about.values[state.value];
  const change = state.mode === "change";
  if (!change) for (const { target } of panels) take(cleanOf(state.view, state.value, target)[0]);
  return scaleOf(low, high, change, column.probability, state.palette);
}

/** A figure: what it is called, and two canvases in a box that scrolls, one above the other. */
function figureOf(panel, index) {
  const canvas = make("canvas", { tabIndex: 0 });
  canvas.setAttribute("role", "application");
  const overlay = make("canvas");
  overlay.style.pointerEvents = "none";
  const span = make("div", {}, canvas, overlay);
  const scroll = make("div", { className: "scroll" }, span);
  const caption = captionOf(panel);
  canvas.setAttribute("aria-label", `${caption.textContent}: arrow keys move, Enter pins`);
  const element = make("figure", { className: "facet" }, caption, scroll);
  const figure = { element, canvas, overlay, span, scroll, panel, index };
  let waiting = null;
  canvas.addEventListener("pointermove", (event) => {
    if (!waiting) requestAnimationFrame(() => {
      const { offsetX, offsetY, clientX, clientY } = waiting;
      waiting = null;
      pointAt(figure, offsetX, offsetY, [clientX, clientY]);
    });
    waiting = event;
  });
  canvas.addEventListener("pointerleave", () => hideTip());
  canvas.addEventListener("click", (event) => {
    pointAt(figure, event.offsetX, event.offsetY, [event.clientX, event.clientY]);
    if (grids.cursor) togglePin(placeOf(panel, grids.cursor.row, grids.cursor.column));
  });
  canvas.addEventListener("keydown", (event) => walk(figure, event));
  scroll.addEventListener("scroll", () => requestAnimationFrame(() => drawFigure(figure)));
  return figure;
}

/** What a panel is called, and what the clean prompts have. */
function captionOf(panel) {
  const { facet } = panel.shape;
  const parts = about.kind === "attention" ? [facet.title] : [targetLabel(state.value, panel.target), facet.title].filter(Boolean);
  const caption = make("figcaption", {}, parts.join(" · "));
  const ends = cleanOf(state.view, state.value, panel.target);
  const said = ["base", "source"].flatMap((name, i) => (Number.isFinite(ends[i]) ? [`${name} ${plain(ends[i])}`] : []));
  if (said.length) caption.append(make("small", {}, said.join("   ")));
  return caption;
}

/** Gives every figure the room that there is, and draws it. */
function fit() {
  const room = the("facets").clientWidth || 900;
  for (const figure of grids.figures) {
    const [wide, tall] = extent(figure.panel, grids.size);
    figure.wide = Math.min(wide + 2, room);
    figure.tall = tall;
    figure.element.style.setProperty("--left", `${grids.size.left}px`);
    figure.scroll.style.width = `${figure.wide}px`;
    figure.span.style.width = `${wide}px`;
    figure.span.style.height = `${tall}px`;
    for (const canvas of [figure.canvas, figure.overlay]) {
      const ratio = devicePixelRatio || 1;
      canvas.width = Math.round(figure.wide * ratio);
      canvas.height = Math.round(tall * ratio);
      canvas.style.width = `${figure.wide}px`;
      canvas.style.height = `${tall}px`;
    }
    figure.overlay.style.marginTop = `${-tall}px`;
    drawFigure(figure);
  }
}

function sharp(canvas) {
  const context = canvas.getContext("2d");
  const ratio = devicePixelRatio || 1;
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  return context;
}

function drawFigure(figure) {
  draw(sharp(figure.canvas), figure.panel, grids.size, grids.scale, figure.scroll.scrollLeft, figure.wide);
  drawMarks(figure);
}

/** The frames round what is pinned and pointed at. */
function drawMarks(figure) {
  const { panel } = figure;
  const { size } = grids;
  const context = sharp(figure.overlay);
  context.clearRect(0, 0, figure.wide, figure.tall);
  context.save();
  context.beginPath();
  context.rect(size.left - 2, 0, figure.wide, panel.shape.rows * size.height + 2);
  context.clip();
  const frame = (row, column, colour, width) => {
    const x = size.left + columnX(panel, size, column) - figure.scroll.scrollLeft;
    const y = (panel.shape.rows - 1 - row) * size.height;
    context.lineWidth = width;
    context.strokeStyle = colour;
    context.strokeRect(x - 0.5, y - 0.5, size.width, size.height);
  };
  for (const pin of pins) {
    if (pin.facet !== panel.shape.facet || pin.target !== panel.target) continue;
    const at = find(panel, pin);
    if (at) frame(at.row, at.column, named("accent"), 3);
  }
  const { cursor } = grids;
  if (cursor && cursor.panel === figure.index) frame(cursor.row, cursor.column, named("mark"), 2);
  context.restore();
}

/** Where a place stands in a panel. */
function find(panel, at) {
  const { shape } = panel;
  const group = shape.groups.indexOf(at.group);
  if (group < 0) return null;
  if (panel.chosen) {
    return panel.chosen[at.row * shape.columns + group] === at.index ? { row: at.row, column: group } : null;
  }
  const head = shape.heads.indexOf(at.index);
  return head < 0 ? null : { row: at.row, column: group * shape.heads.length + head };
}

function pointAt(figure, x, y, pointer) {
  const at = cellAt(figure.panel, grids.size, x + figure.scroll.scrollLeft, y);
  if (!at || x < grids.size.left) return hideTip();
  const before = grids.cursor;
  grids.cursor = { panel: figure.index, ...at };
  if (before && before.panel !== figure.index && grids.figures[before.panel]) drawMarks(grids.figures[before.panel]);
  drawMarks(figure);
  showTip(tipOf(placeOf(figure.panel, at.row, at.column)), pointer);
}

/** Puts the cursor on a cell, as near as there is one. */
function moveTo(index, row, column, told = true) {
  const figure = grids.figures[index];
  if (!figure) return void (grids.cursor = null);
  const { shape } = figure.panel;
  const within = (x, count) => Math.min(Math.max(x, 0), count - 1);
  grids.cursor = { panel: index, row: within(row, shape.rows), column: within(column, shape.columns) };
  const x = columnX(figure.panel, grids.size, grids.cursor.column);
  const seen = figure.wide - grids.size.left - grids.size.width;
  if (x < figure.scroll.scrollLeft) figure.scroll.scrollLeft = x;
  else if (x > figure.scroll.scrollLeft + seen) figure.scroll.scrollLeft = x - seen;
  grids.figures.forEach(drawMarks);
  if (!told) return;
  const at = placeOf(figure.panel, grids.cursor.row, grids.cursor.column);
  const box = figure.canvas.getBoundingClientRect();
  const left = box.left + grids.size.left + x - figure.scroll.scrollLeft + grids.size.width;
  showTip(tipOf(at), [left, box.top + (shape.rows - grids.cursor.row) * grids.size.height]);
  say(`${inWords(at)}: ${about.values[state.value].name} ${plain(number(at.view, state.value, at.target, at.cell))}`);
}

const STEPS_OF = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [1, 0], ArrowDown: [-1, 0] };

/** Keys of a grid. */
function walk(figure, event) {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const { shape } = figure.panel;
  const here = grids.cursor?.panel === figure.index ? grids.cursor : null;
  const move = STEPS_OF[event.key];
  if (move) {
    const far = event.shiftKey ? Math.max(1, shape.heads.length) : 1;
    if (here) moveTo(figure.index, here.row + move[0], here.column + move[1] * far);
    else moveTo(figure.index, shape.rows - 1, 0);
  } else if (event.key === "Home") moveTo(figure.index, here?.row ?? shape.rows - 1, 0);
  else if (event.key === "End") moveTo(figure.index, here?.row ?? shape.rows - 1, shape.columns - 1);
  else if ((event.key === "Enter" || event.key === " ") && here) togglePin(placeOf(figure.panel, here.row, here.column));
  else return;
  event.preventDefault();
}

/** What is said of a cell: every column of it. */
function tipOf(at) {
  const box = make("div", {}, make("b", {}, inWords(at)));
  const label = about.kind === "attention" ? "" : `target ${about.targets[at.target]}`;
  if (about.targets.length > 1 && label) box.append(make("div", { className: "hint" }, label));
  box.append(valuesTable([at]));
  return box;
}

/** Every column of some cells, beside each other. */
function valuesTable(places) {
  const body = make("tbody");
  const known = about.values.some((_, value) => changesKnown[value]);
  about.values.forEach((column, value) => {
    const line = make("tr", {}, make("th", {}, column.name));
    for (const at of places) {
      const x = number(at.view, value, at.target, at.cell);
      const base = baseOf(at.view, value, at.target, at.cell);
      line.append(make("td", { className: "number" }, plain(x)));
      if (known) line.append(make("td", { className: "number" }, Number.isNaN(base) ? "" : signed(x - base)));
    }
    body.append(line);
  });
  const head = make("tr", {}, make("th"));
  for (const _ of places) {
    head.append(make("th", { className: "number" }, about.kind === "attention" ? "" : "patched"));
    if (known) head.append(make("th", { className: "number" }, "change"));
  }
  return make("table", {}, make("thead", {}, head), body);
}

function showTip(content, [x, y]) {
  const tip = the("tip");
  tip.replaceChildren(content);
  tip.hidden = false;
  const box = tip.getBoundingClientRect();
  tip.style.left = `${Math.max(4, Math.min(x + 14, innerWidth - box.width - 8))}px`;
  tip.style.top = `${y + 18 + box.height > innerHeight ? Math.max(4, y - box.height - 10) : y + 18}px`;
}

function hideTip() {
  the("tip").hidden = true;
}

/** What the shown column is called. */
function longName() {
  const { name } = about.values[state.value];
  return { prob: "probability", logprob: "log-probability" }[name] ?? name;
}

/** The same, with what of it is shown. */
function shownName() {
  const long = longName();
  const change = state.mode === "change" || (about.kind === "edges" && changesKnown[state.value]);
  return change ? `${long}, change from the base` : long;
}

/** The scale with its ends. */
function drawLegend() {
  const { scale } = grids;
  const spelling = spellingOf(scale);
  const factor = spelling.exponent ? ` (in cells × 1e${spelling.exponent})` : "";
  const name = shownName() + factor;
  const canvas = make("canvas");
  const left = Math.ceil(textWidth(name, LABEL)) + 14;
  const [wide, tall] = [left + 320, 34];
  const ratio = devicePixelRatio || 1;
  canvas.width = wide * ratio;
  canvas.height = tall * ratio;
  canvas.style.width = `${wide}px`;
  canvas.style.height = `${tall}px`;
  legend(sharp(canvas), scale, name, left, 0, 0);
  canvas.setAttribute("role", "img");
  canvas.setAttribute("aria-label", `${name}, from ${plain(scale.low)} to ${plain(scale.high)}`);
  the("legend").replaceChildren(canvas);
}

function legend(context, scale, name, left, x, y) {
  context.font = `${LABEL}px ${FONT}`;
  context.textBaseline = "middle";
  context.textAlign = "left";
  context.fillStyle = named("ink");
  context.fillText(name, x, y + 8);
  for (let i = 0; i < 240; i++) {
    context.fillStyle = css(scale.table[Math.round((i / 239) * (STEPS - 1))]);
    context.fillRect(x + left + i, y + 2, 1.5, 12);
  }
  context.fillStyle = named("ink");
  context.font = `${SMALL}px ${FONT}`;
  context.textAlign = "center";
  const middle = scale.diverging ? [0] : [(scale.low + scale.high) / 2];
  for (const value of [scale.low, ...middle, scale.high]) {
    const at = x + left + (240 * (value - scale.low)) / (scale.high - scale.low);
    context.fillText(plain(value), at, y + 24);
  }
  if (about.kind === "edges") return;
  const box = x + left + 262;
  context.fillStyle = named("empty");
  context.fillRect(box, y + 2, 16, 12);
  context.strokeStyle = named("rule");
  context.strokeRect(box + 0.5, y + 2.5, 15, 11);
  context.fillStyle = named("ink");
  context.textAlign = "left";
  context.fillText(about.kind === "attention" ? "masked" : "none", box + 20, y + 8.5);
}

