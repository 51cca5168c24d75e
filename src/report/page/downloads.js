// What is shown as files: a picture, a drawing, a table, a graph.

/** The largest side of a picture that browsers draw. */
const LARGEST = 16384;
/** More rectangles than this are no drawing that anything opens. */
const MOST_RECTANGLES = 60000;

function save(name, parts, type) {
  const address = URL.createObjectURL(new Blob(parts, { type }));
  const link = make("a", { href: address, download: name });
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(address), 10000);
}

/** Where each panel goes in one picture, and how large that is. */
function arranged() {
  const room = Math.max(900, the("facets").clientWidth);
  const top = 24 + about.title.length * 20 + 44;
  let [x, y, deep, wide] = [20, top, 0, 620];
  const placed = grids.panels.map((panel) => {
    const [width, height] = extent(panel, grids.size);
    if (x > 20 && x + width > room) [x, y, deep] = [20, y + deep + 34, 0];
    const at = { panel, x, y, width, height };
    x += width + 30;
    deep = Math.max(deep, height);
    wide = Math.max(wide, at.x + width + 20);
    return at;
  });
  return { placed, wide: Math.ceil(wide), tall: Math.ceil(y + deep + 30) };
}

function caption({ panel }) {
  return captionOf(panel).textContent;
}

function titleLines() {
  return about.title.map(([label, text]) => (label ? `${label}  ${text}` : text));
}

function savePng() {
  const edges = about.kind === "edges";
  const { placed, wide, tall } = edges ? { placed: [], wide: graph.size[0], tall: graph.size[1] + 120 } : arranged();
  if (wide > LARGEST || tall > LARGEST) return refuse(`the picture would be ${wide} × ${tall} pixels, more than a browser draws: zoom out, or choose a head or a component`);
  const ratio = Math.min(2, LARGEST / Math.max(wide, tall));
  const canvas = make("canvas", { width: wide * ratio, height: tall * ratio });
  const context = canvas.getContext("2d");
  context.scale(ratio, ratio);
  context.fillStyle = named("ground");
  context.fillRect(0, 0, wide, tall);
  context.fillStyle = named("ink");
  context.font = `14px ${FONT}`;
  context.textBaseline = "middle";
  titleLines().forEach((line, i) => context.fillText(line, 20, 22 + 20 * i));
  legend(context, grids.scale, shownName(), Math.ceil(textWidth(shownName(), LABEL)) + 14, 20, 16 + 20 * about.title.length);
  for (const at of placed) {
    context.fillStyle = named("ink");
    context.font = `14px ${FONT}`;
    context.textAlign = "left";
    context.fillText(caption(at), at.x + grids.size.left, at.y - 8);
    context.save();
    context.translate(at.x, at.y);
    draw(context, at.panel, grids.size, grids.scale, 0, at.width);
    context.restore();
  }
  if (edges) {
    context.translate(0, 60 + 20 * about.title.length);
    sketch(context, graph.size);
  }
  canvas.toBlob((blob) => save("headlight.png", [blob], "image/png"), "image/png");
}

const xml = (text) => String(text).replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");

function svgText(x, y, text, size, anchor, ink = "#222222", turn = "") {
  return `<text x="${x.toFixed(1)}" y="${y.toFixed(1)}" font-size="${size}" text-anchor="${anchor}" fill="${ink}"${turn}>${xml(text)}</text>`;
}

/** A panel as marks of SVG; neighbours of one colour are one rectangle. */
function svgPanel({ panel, x, y }, out) {
  const { shape } = panel;
  const { size, scale } = grids;
  const { facet } = shape;
  const tall = shape.rows * size.height;
  out.push(svgText(x + size.left, y - 4, caption({ panel }), 14, "start"));
  const skip = every(LABEL + 1, size.height);
  for (let row = 0; row < shape.rows; row++) {
    const top = y + (shape.rows - 1 - row) * size.height;
    if (row % skip === 0) out.push(svgText(x + size.left - 6, top + size.height / 2 + 4, facet.rows[row].label, LABEL, "end"));
    let [from, colour] = [0, null];
    const flush = (to) => {
      if (colour === null || to === from) return;
      const left = x + size.left + columnX(panel, size, from);
      const right = x + size.left + columnX(panel, size, to - 1) + size.width;
      out.push(`<rect x="${left}" y="${top}" width="${right - left - size.seam}" height="${size.height - size.seam}" fill="${colour}"/>`);
    };
    for (let column = 0; column < shape.columns; column++) {
      const value = panel.values[row * shape.columns + column];
      const own = Number.isNaN(value) ? "#f1f1f1" : css(scale.table[step(scale, value)]);
      const group = size.seam > 0 || column % shape.heads.length === 0;
      if (own !== colour || group) {
        flush(column);
        [from, colour] = [column, own];
      }
    }
    flush(shape.columns);
  }
  const heads = shape.heads.length;
  shape.groups.forEach((group, i) => {
    const left = x + size.left + columnX(panel, size, i * heads);
    const middle = left + (heads * size.width) / 2;
    let below = y + tall + 14;
    if (heads > 1 && size.width >= 14) {
      shape.heads.forEach((head, k) => out.push(svgText(left + (k + 0.5) * size.width, y + tall + 11, facet.heads[head], SMALL, "middle", "#666666")));
      below += 14;
    }
    const label = groupLabel(facet, group, facet.view ?? state.view);
    const turn = size.slanted ? ` transform="rotate(-45 ${(middle + 4).toFixed(1)} ${below.toFixed(1)})"` : "";
    out.push(svgText(size.slanted ? middle + 4 : middle, below, cut(label, LABEL, TOKEN), LABEL, size.slanted ? "end" : "middle", "#222222", turn));
  });
}

function saveSvg() {
  const out = [];
  let [wide, tall] = [0, 0];
  if (about.kind === "edges") {
    [wide, tall] = [graph.size[0], graph.size[1] + 40 + 20 * about.title.length];
    svgGraph(out, 40 + 20 * about.title.length);
  } else {
    const count = grids.panels.reduce((sum, panel) => sum + panel.values.length, 0);
    if (count > MOST_RECTANGLES) return refuse(`${count} cells are too many for an SVG (${MOST_RECTANGLES}): save a PNG, or choose a head or a component`);
    const all = arranged();
    [wide, tall] = [all.wide, all.tall];
    for (const at of all.placed) svgPanel(at, out);
  }
  const lines = titleLines().map((line, i) => svgText(20, 26 + 20 * i, line, 14, "start"));
  const scale = `${shownName()}: ${plain(grids.scale.low)} to ${plain(grids.scale.high)}`;
  lines.push(svgText(20, 30 + 20 * about.title.length, scale, LABEL, "start", "#666666"));
  const head = `<svg xmlns="http://www.w3.org/2000/svg" width="${wide}" height="${tall}" viewBox="0 0 ${wide} ${tall}" font-family="${FONT.replaceAll('"', "'")}">`;
  save("headlight.svg", [[head, `<rect width="${wide}" height="${tall}" fill="#ffffff"/>`, ...lines, ...out, "</svg>\n"].join("\n")], "image/svg+xml");
}

function svgGraph(out, down) {
  const most = graph.order.length ? Math.abs(weight(graph.order[0])) : 1;
  const stops = PALETTES[state.palette].diverging;
  for (let i = graph.shown - 1; i >= 0; i--) {
    const edge = graph.order[i];
    const [x0, y0, x1, y1, x2, y2, x3, y3] = curve(edge).map((x, k) => (k % 2 ? x + down : x).toFixed(1));
    const share = Math.abs(weight(edge)) / most;
    out.push(`<path d="M${x0} ${y0}C${x1} ${y1} ${x2} ${y2} ${x3} ${y3}" fill="none" stroke="${stops[weight(edge) < 0 ? 1 : 7]}" stroke-width="${(0.6 + 4.4 * share).toFixed(2)}" stroke-opacity="${(0.25 + 0.65 * Math.sqrt(share)).toFixed(2)}"><title>${xml(edgeName(edge))} ${signed(weight(edge))}</title></path>`);
  }
  for (const node of graph.at) {
    out.push(`<circle cx="${node.x.toFixed(1)}" cy="${(node.y + down).toFixed(1)}" r="${graph.radius.toFixed(1)}" fill="#f7f7f8" stroke="#666666"/>`);
    out.push(svgText(node.x, node.y + down + 3.5, node.kind === "a" ? node.head : node.name, 9, "middle"));
  }
}

/** A field as CSV has it. */
function field(text) {
  if (text === null || text === undefined) return "";
  return /[",\n\r]/.test(text) ? `"${String(text).replaceAll('"', '""')}"` : String(text);
}

/** Every number of the view, a line a cell and target. */
function saveCsv() {
  const view = about.views[state.view];
  const parts = [];
  let lines = [];
  const names = about.values.map((column) => column.name);
  const write = (cells) => {
    lines.push(cells.map(field).join(","));
    if (lines.length === 20000) [lines] = [[], parts.push(lines.join("\n") + "\n")];
  };
  const targets = about.targets.length;
  const values = (target, cell) => about.values.map((_, value) => exact(number(state.view, value, target, cell)));
  if (about.kind === "edges") {
    write(["pair", "edge", "position", "target", ...names]);
    for (let edge = 0; edge < about.cells; edge++) {
      for (let target = 0; target < targets; target++) write([view.pair, edgeName(edge), edgeOf(edge).position, about.targets[target], ...values(target, edge)]);
    }
  } else {
    const attention = about.kind === "attention";
    write(["pair", "component", "layer", "head", ...(attention ? ["query"] : ["op"]), "position", "position_name", "token", "target", ...names]);
    for (const facet of about.facets.filter((own) => own.view === undefined || own.view === state.view)) {
      for (let row = 0; row < facet.rows.length; row++) {
        for (let group = 0; group < facet.groups.length; group++) {
          for (let head = 0; head < facet.heads.length; head++) {
            for (let target = 0; target < targets; target++) {
              const at = place(facet, row, group, head, target);
              const own = values(target, at.cell);
              if (own.every((text) => text === "")) continue;
              write([view.pair, at.component, at.layer, at.head, attention ? facet.rows.length - 1 - row : facet.op, at.position, at.name, at.token, about.targets[target], ...own]);
            }
          }
        }
      }
    }
  }
  parts.push(lines.join("\n") + "\n");
  save("headlight.csv", parts, "text/csv");
}

function refuse(text) {
  const note = the("notes").querySelector(".refused") ?? the("notes").appendChild(make("li", { className: "refused" }));
  note.textContent = text;
  say(text);
}

