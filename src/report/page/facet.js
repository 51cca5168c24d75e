// A facet as it is shown: which of its columns, what they hold, and where each stands.

/** A facet's columns under what is chosen: groups of a view that has them, and heads. */
function shapeOf(facet) {
  const heads = facet.heads.length;
  const picked = facet.heads.indexOf(state.head);
  const several = heads > 1;
  let shown = [...Array(heads).keys()];
  const strongest = several && state.head === "strongest";
  if (strongest) shown = [-1];
  else if (several && state.head !== "all") shown = picked >= 0 ? [picked] : [];
  const groups = [...facet.groups.keys()].filter((group) => groupIsThere(facet, group));
  return { facet, groups, heads: shown, strongest, rows: facet.rows.length, columns: groups.length * shown.length };
}

/** Whether a view has something at a position; prompts differ in length. */
function groupIsThere(facet, group) {
  if (facet.view !== undefined || (hasMean && state.view === 0) || about.views.length === 1) return true;
  const heads = facet.heads.length;
  const from = start(state.view, state.value, 0);
  for (let row = 0; row < facet.rows.length; row++) {
    const first = from + cellOf(facet, row, group, 0);
    for (let head = 0; head < heads; head++) if (!Number.isNaN(numbers.cells[first + head])) return true;
  }
  return false;
}

/** Which of the numbers a cell is. */
function cellOf(facet, row, group, head) {
  return facet.offset + (row * facet.groups.length + group) * facet.heads.length + head;
}

/** A facet of one target with its values: what is drawn, row by row from the lowest. */
function panelOf(facet, target) {
  const shape = shapeOf(facet);
  const values = new Float32Array(shape.rows * shape.columns);
  // which head stands in a cell, where that is the strongest one
  const chosen = shape.strongest ? new Int32Array(values.length) : null;
  const from = start(state.view, state.value, target);
  const change = state.mode === "change";
  const own = hasMean && state.view === 0;
  const flat = change && !own ? baseOf(state.view, state.value, target, 0) : 0;
  const bases = about.values[state.value].offset + (about.values[state.value].targets > 1 ? target : 0) * about.cells;
  const of = (cell) => numbers.cells[from + cell] - (change ? (own ? numbers.bases[bases + cell] : flat) : 0);
  let at = 0;
  for (let row = 0; row < shape.rows; row++) {
    for (const group of shape.groups) {
      const first = cellOf(facet, row, group, 0);
      if (chosen) {
        let best = 0;
        let most = -1;
        for (let head = 0; head < facet.heads.length; head++) {
          const size = Math.abs(changeOf(state.view, state.value, target, first + head));
          if (size > most) [most, best] = [size, head];
        }
        chosen[at] = best;
        values[at++] = of(first + best);
      } else {
        for (const head of shape.heads) values[at++] = of(first + head);
      }
    }
  }
  return { shape, target, values, chosen };
}

/** What a cell of a panel is: its place in words and in numbers. */
function placeOf(panel, row, column) {
  const { shape, target } = panel;
  const { facet } = shape;
  const group = shape.groups[Math.floor(column / shape.heads.length)];
  const index = panel.chosen ? panel.chosen[row * shape.columns + column] : shape.heads[column % shape.heads.length];
  return place(facet, row, group, index, target);
}

/** The place of a cell of a facet. */
function place(facet, row, group, index, target) {
  const { component, layer, site } = facet.rows[row];
  const at = facet.groups[group];
  const view = facet.view ?? state.view;
  const written = facet.heads[index];
  const head = facet.heads.length > 1 ? (/^\d+$/.test(written) ? Number(written) : null) : (facet.head ?? null);
  const headed = facet.heads.length > 1 || facet.head !== null;
  return {
    facet, row, group, index, target, view, component, layer, head,
    cell: cellOf(facet, row, group, index),
    position: at.position, name: at.name, token: groupLabel(facet, group, view),
    site,
    headed: headed && head !== null,
  };
}

/** What the column of a position is called in a view: its own token, where the view is one pair. */
function groupLabel(facet, group, view) {
  const { label, position, name } = facet.groups[group];
  if (name || position === null || (hasMean && view === 0)) return label;
  const token = about.views[view]?.base?.tokens[position];
  return token === undefined ? label : token + (label.endsWith("*") && label !== token ? "*" : "");
}

/** A position in words: its number and its token, as far as there are both. */
function positionOf({ position, token }) {
  if (position === null || position === undefined) return token;
  return token === String(position) ? token : `${position} ${token}`;
}

/** A place in one line. */
function inWords(at) {
  const words = [at.site];
  if (about.kind === "attention") {
    words.push(`query ${at.facet.rows.length - 1 - at.row} ${at.facet.rows[at.row].label}`, `key ${at.position} ${at.token}`);
    return words.join(" · ");
  }
  if (at.headed) words.push(`head ${at.head}`);
  const position = positionOf(at);
  if (position) words.push(`position ${position}`);
  if (about.facets.length > 1 && at.facet.op && at.facet.title.includes(at.facet.op)) words.push(at.facet.op);
  return words.join(" · ");
}

