// How a panel is drawn: on the screen, and in a picture that is downloaded.

const LABEL = 12;
const SMALL = 10;
const TOKEN = 190;
const FONT = 'system-ui, "DejaVu Sans", sans-serif';
/** No image is wider than what every browser draws. */
const TILE = 8192;

const ruler = document.createElement("canvas").getContext("2d");

/** Texts come again in every frame. */
const widths = new Map();

function textWidth(text, size) {
  const key = `${size} ${text}`;
  let width = widths.get(key);
  if (width === undefined) {
    ruler.font = `${size}px ${FONT}`;
    width = ruler.measureText(text).width;
    widths.set(key, width);
  }
  return width;
}

/** A label cut to a width, the last letter `…` where something is missing. */
function cut(text, size, most) {
  if (textWidth(text, size) <= most) return text;
  let end = text.length;
  while (end > 0 && textWidth(text.slice(0, end) + "…", size) > most) end--;
  return text.slice(0, end) + "…";
}

/** The measures that panels share, so that they line up. */
function measures(panels) {
  const most = (of) => panels.reduce((top, panel) => Math.max(top, of(panel.shape)), 0);
  const heads = panels.some((panel) => panel.shape.heads.length > 1);
  const attention = about.kind === "attention";
  const columns = most((shape) => shape.columns);
  const rows = most((shape) => shape.rows);
  const pick = (steps, count) => steps.find(([limit]) => count <= limit)[1];
  let width = heads
    ? pick([[24, 34], [80, 14], [200, 8], [Infinity, 4]], columns)
    : pick([[6, 58], [12, 48], [24, 38], [48, 22], [200, 14], [Infinity, 6]], columns);
  let height = pick([[30, heads ? 17 : 20], [64, 13], [200, 9], [Infinity, 4]], rows);
  if (attention) {
    // square, and as a whole beside the overview
    const room = (the("facets").clientWidth || 600) - 100;
    width = height = Math.max(3, Math.min(pick([[8, 52], [16, 36], [32, 22], [Infinity, 14]], columns), Math.floor(room / columns)));
  }
  width = Math.max(1, Math.round(width * state.zoom));
  height = Math.max(1, Math.round(height * state.zoom));
  const labels = panels.flatMap((panel) => panel.shape.facet.rows.map((row) => row.label));
  let left = Math.max(8, ...new Set(labels.map((label) => Math.ceil(textWidth(cut(label, LABEL, TOKEN), LABEL))))) + 8;
  if (heads) left = Math.max(left, textWidth("head", SMALL) + 8);
  const size = { width, height, heads, gap: heads ? (width >= 14 ? 8 : 4) : 0, seam: Math.min(width, height) >= 12 ? 1 : 0, left };
  const groups = panels.flatMap(({ shape }) => shape.groups.map((group, at) => [shape, group, at]));
  const text = ([shape, group]) => cut(groupLabel(shape.facet, group, shape.facet.view ?? state.view), LABEL, TOKEN);
  // of very many, some say how long the others are
  const sample = groups.length > 400 ? groups.filter((_, i) => i % Math.ceil(groups.length / 400) === 0) : groups;
  const room = ([shape]) => shape.heads.length * width;
  size.slanted = sample.some((group) => textWidth(text(group), LABEL) > room(group) - 4);
  let deepest = LABEL;
  if (size.slanted) {
    for (const group of sample) {
      const reach = textWidth(text(group), LABEL) * Math.SQRT1_2;
      deepest = Math.max(deepest, reach + 12);
      const middle = group[2] * (room(group) + size.gap) + room(group) / 2;
      size.left = Math.max(size.left, Math.ceil(reach - middle));
    }
  }
  size.axis = Math.ceil((heads ? SMALL + 9 : 3) + deepest + 6);
  return size;
}

/** Width and height of a panel's whole drawing. */
function extent(panel, size) {
  const { groups, heads, rows } = panel.shape;
  const step = heads.length * size.width + size.gap;
  return [size.left + Math.max(0, groups.length * step - size.gap), rows * size.height + size.axis];
}

/** Where a column begins, from the left edge of the cells. */
function columnX(panel, size, column) {
  const heads = panel.shape.heads.length;
  return column * size.width + Math.floor(column / heads) * size.gap;
}

/** The cell under a point of the drawing, or nothing. */
function cellAt(panel, size, x, y) {
  const { groups, heads, rows, columns } = panel.shape;
  const step = heads.length * size.width + size.gap;
  const group = Math.floor((x - size.left) / step);
  const head = Math.floor((x - size.left - group * step) / size.width);
  const row = rows - 1 - Math.floor(y / size.height);
  if (columns === 0 || group < 0 || group >= groups.length || head >= heads.length || row < 0 || row >= rows) return null;
  return { row, column: group * heads.length + head };
}

/** Paints a panel's values, one pixel a cell, in tiles. */
function paint(panel, scale, empty) {
  const { rows, columns } = panel.shape;
  const missing = new Uint32Array(new Uint8Array([...channels(empty), 255]).buffer)[0];
  panel.tiles = [];
  for (let from = 0; from < columns; from += TILE) {
    const wide = Math.min(TILE, columns - from);
    const image = new ImageData(wide, rows);
    const pixels = new Uint32Array(image.data.buffer);
    for (let row = 0; row < rows; row++) {
      const line = (rows - 1 - row) * wide;
      const first = row * columns + from;
      for (let i = 0; i < wide; i++) {
        const x = panel.values[first + i];
        pixels[line + i] = x === x ? scale.table[step(scale, x)] : missing;
      }
    }
    const tile = document.createElement("canvas");
    tile.width = wide;
    tile.height = rows;
    tile.getContext("2d").putImageData(image, 0, 0);
    panel.tiles.push(tile);
  }
}

/** Draws a panel into a window of so many pixels, scrolled by some. */
function draw(context, panel, size, scale, scroll, wide) {
  const { shape } = panel;
  const { facet, groups, heads, rows } = shape;
  const tall = rows * size.height;
  const ink = named("ink");
  const soft = named("soft");
  const ground = named("ground");
  context.fillStyle = ground;
  context.fillRect(0, 0, wide, tall + size.axis);
  context.textBaseline = "middle";
  context.font = `${LABEL}px ${FONT}`;
  context.textAlign = "right";
  context.fillStyle = ink;
  const skip = every(LABEL + 1, size.height);
  for (let row = 0; row < rows; row += skip) {
    context.fillText(cut(facet.rows[row].label, LABEL, TOKEN), size.left - 6, tall - (row + 0.5) * size.height);
  }
  const stride = heads.length * size.width + size.gap;
  const first = Math.max(0, Math.floor(scroll / stride));
  const last = Math.min(groups.length, Math.ceil((scroll + wide - size.left) / stride));
  context.save();
  context.beginPath();
  context.rect(size.left, 0, wide - size.left, tall);
  context.clip();
  context.imageSmoothingEnabled = false;
  const together = size.gap === 0;
  // where nothing stands between groups, all that is seen is one image
  const parts = together ? [[first * heads.length, last * heads.length]] : range(first, last).map((g) => [g * heads.length, (g + 1) * heads.length]);
  for (const [from, to] of parts) {
    for (let at = from; at < to; ) {
      const tile = Math.floor(at / TILE);
      const end = Math.min(to, (tile + 1) * TILE);
      const x = size.left + columnX(panel, size, at) - scroll;
      context.drawImage(panel.tiles[tile], at - tile * TILE, 0, end - at, rows, x, 0, (end - at) * size.width, tall);
      at = end;
    }
  }
  if (size.seam) seams(context, size, rows, parts, (column) => size.left + columnX(panel, size, column) - scroll, ground);
  const seen = (last - first) * heads.length * rows;
  if (seen <= 20000 && size.width >= 8 && size.height >= 8) inside(context, panel, size, scale, [first, last], scroll, seen <= 4000);
  context.restore();
  axis(context, panel, size, [first, last], scroll, wide, { ink, soft, tall });
}

function range(from, to) {
  return Array.from({ length: Math.max(0, to - from) }, (_, i) => from + i);
}

/** One label in so many, where each takes so much room. */
function every(needed, room) {
  const count = Math.max(1, Math.ceil(needed / room));
  return count > 2 ? Math.ceil(count / 5) * 5 : count;
}

function seams(context, size, rows, parts, x, ground) {
  context.strokeStyle = ground;
  context.lineWidth = 1;
  context.beginPath();
  for (const [from, to] of parts) {
    const [left, right] = [x(from), x(to - 1) + size.width];
    for (let column = from; column < to; column++) {
      context.moveTo(x(column) + size.width - 0.5, 0);
      context.lineTo(x(column) + size.width - 0.5, rows * size.height);
    }
    for (let row = 1; row <= rows; row++) {
      context.moveTo(left, row * size.height - 0.5);
      context.lineTo(right, row * size.height - 0.5);
    }
  }
  context.stroke();
}

/** What stands in cells: a number where it fits, a stroke where nothing was run. */
function inside(context, panel, size, scale, [first, last], scroll, wanted) {
  const { heads, rows, columns } = panel.shape;
  const spelling = spellingOf(scale);
  const fits = wanted && size.width - 5 >= spelling.widest * 6 && size.height >= 13;
  context.font = `${SMALL}px ${FONT}`;
  context.textAlign = "center";
  context.strokeStyle = named("rule");
  context.lineWidth = 0.8;
  context.beginPath();
  for (let row = 0; row < rows; row++) {
    const y = (rows - 1 - row) * size.height;
    for (let column = first * heads.length; column < last * heads.length; column++) {
      const x = size.left + columnX(panel, size, column) - scroll;
      const value = panel.values[row * columns + column];
      if (value !== value) {
        // what is masked was not left out
        if (about.kind === "attention") continue;
        context.moveTo(x + 2, y + size.height - 3);
        context.lineTo(x + size.width - 3, y + 2);
      } else if (fits) {
        context.fillStyle = inkOn(scale.table[step(scale, value)]);
        context.fillText(spelling.text(value), x + (size.width - size.seam) / 2, y + size.height / 2);
      }
    }
  }
  context.stroke();
}

/** How the cells of a picture spell their values, all alike. */
function spellingOf(scale) {
  let reach = Math.max(Math.abs(scale.low), Math.abs(scale.high));
  const exponent = reach > 0 && (reach < 0.01 || reach >= 1000) ? Math.floor(Math.log10(reach)) : 0;
  const unit = 10 ** exponent;
  reach /= unit;
  const decimals = reach < 1.005 ? 2 : reach < 10 ? 2 : reach < 100 ? 1 : 0;
  const text = (x) => {
    if (!Number.isFinite(x)) return x > 0 ? "∞" : "−∞";
    const written = (x / unit).toFixed(decimals);
    if (Number(written) === 0) return decimals ? "." + "0".repeat(decimals) : "0";
    return written.replace(/^(-?)0\./, "$1.").replace("-", "−");
  };
  return { exponent, text, widest: (scale.low < 0 ? 1 : 0) + (reach < 1.005 ? 3 : 4) };
}

/** Heads and tokens below the cells. */
function axis(context, panel, size, [first, last], scroll, wide, { ink, soft, tall }) {
  const { facet, groups, heads } = panel.shape;
  const view = facet.view ?? state.view;
  let y = tall + 3;
  context.font = `${SMALL}px ${FONT}`;
  const middle = (column) => size.left + columnX(panel, size, column) - scroll + size.width / 2;
  if (heads.length > 1) {
    const written = heads.map((head) => facet.heads[head]);
    const skip = every(Math.max(...written.map((head) => textWidth(head, SMALL))) + 3, size.width);
    context.fillStyle = soft;
    context.textAlign = "right";
    context.fillText("head", size.left - 6, y + SMALL / 2);
    context.textAlign = "center";
    for (const group of range(first, last)) {
      for (let head = 0; head < heads.length; head += skip) {
        const x = middle(group * heads.length + head);
        if (x > size.left) context.fillText(written[head], x, y + SMALL / 2);
      }
    }
    y += SMALL + 3;
    context.strokeStyle = soft;
    context.beginPath();
    for (const group of range(first, last)) {
      const from = Math.max(size.left, size.left + columnX(panel, size, group * heads.length) - scroll);
      const to = size.left + columnX(panel, size, (group + 1) * heads.length - 1) + size.width - 1 - scroll;
      if (to > from && groupLabel(facet, groups[group], view)) {
        context.moveTo(from, y + 0.5);
        context.lineTo(to, y + 0.5);
      }
    }
    context.stroke();
    y += 3;
  }
  context.font = `${LABEL}px ${FONT}`;
  context.fillStyle = ink;
  const stride = heads.length * size.width + size.gap;
  const skip = size.slanted ? every(LABEL + 1, stride) : 1;
  for (const group of range(first, last)) {
    if (group % skip) continue;
    const label = cut(groupLabel(facet, groups[group], view), LABEL, TOKEN);
    const x = size.left + group * stride + (stride - size.gap) / 2 - scroll;
    if (x < size.left || x > wide) continue;
    if (size.slanted) {
      context.save();
      context.translate(x + 4, y + 6);
      context.rotate(-Math.PI / 4);
      context.textAlign = "right";
      context.fillText(label, 0, 0);
      context.restore();
    } else {
      context.textAlign = "center";
      context.fillText(label, x, y + LABEL / 2 + 1);
    }
  }
}

