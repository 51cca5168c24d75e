// The residual graph by layers: senders below, receivers above, the strongest edges alone, as many as the slider says.

const graph = { order: null, shown: 0, share: 0.5, position: -1, keptOnly: (about.graph?.kept ?? []).length > 0, cursor: -1, canvas: null, at: [], level: null };
const EVERY_POSITION = 0xffffffff;

/** Sender, receiver and position of an edge. */
function edgeOf(edge) {
  const [sender, receiver, position] = numbers.edges.subarray(3 * edge, 3 * edge + 3);
  return { sender, receiver, node: about.graph.receivers[receiver][1], position: position === EVERY_POSITION ? null : position };
}

function edgeName(edge) {
  const { sender, receiver, position } = edgeOf(edge);
  const name = `${about.graph.nodes[sender]}->${about.graph.receivers[receiver][0]}`;
  return position === null ? name : `${name}@${position}`;
}

/** An edge as a place, so that it is pinned and listed as cells are. */
function edgePlace(edge) {
  const { sender, receiver, position } = edgeOf(edge);
  return {
    facet: null, row: 0, group: 0, index: 0, cell: edge, target: Math.max(0, state.target), view: state.view, site: edgeName(edge), headed: false,
    head: null, position, token: position === null ? "" : (about.views[state.view]?.base?.tokens[position] ?? String(position)),
    sender: about.graph.nodes[sender], receiver: about.graph.receivers[receiver][0],
  };
}

function weight(edge) {
  return changeOf(state.view, state.value, Math.max(0, state.target), edge);
}

/** Edges from the strongest on, of what is chosen. */
function orderEdges() {
  const all = [];
  const size = new Float32Array(about.cells);
  for (let edge = 0; edge < about.cells; edge++) {
    if (graph.keptOnly && !about.graph.kept[edge]) continue;
    if (graph.position >= 0 && edgeOf(edge).position !== graph.position) continue;
    size[edge] = Math.abs(weight(edge));
    if (size[edge] > 0) all.push(edge);
  }
  graph.order = all.sort((a, b) => size[b] - size[a] || a - b);
  setShare(graph.share);
}

/** How many edges are shown: a share of their number's logarithm, since few are strong. */
function setShare(share) {
  graph.share = share;
  const count = graph.order.length;
  graph.shown = count ? Math.max(1, Math.round(count ** share)) : 0;
}

/** Where nodes stand: layers upward, heads side by side, MLPs to their right. */
function placeNodes(wide) {
  const parsed = about.graph.nodes.map((name) => {
    const [, kind, layer, head] = /^([am])(\d+)(?:\.h(\d+))?$/.exec(name) ?? [null, name, "", undefined];
    return { name, kind, layer: Number(layer), head: Number(head ?? 0) };
  });
  const layers = Math.max(0, ...parsed.filter((node) => node.kind.length === 1).map((node) => node.layer)) + 1;
  const heads = Math.max(0, ...parsed.filter((node) => node.kind === "a").map((node) => node.head)) + 1;
  const tall = Math.max(20, Math.min(44, 720 / (2 * layers + 2))) * state.zoom;
  const step = Math.min(64, (wide - 110) / (heads + 1)) * state.zoom;
  const level = ({ kind, layer }) => ({ input: 0, a: 1 + 2 * layer, m: 2 + 2 * layer, logits: 1 + 2 * layers })[kind];
  const top = (2 * layers + 1) * tall + 24;
  graph.at = parsed.map((node) => {
    const across = { a: node.head, m: heads, input: heads / 2, logits: heads / 2 }[node.kind];
    return { ...node, x: 64 + step / 2 + across * step, y: top - level(node) * tall };
  });
  graph.radius = Math.max(4, Math.min(11, tall * 0.32, step * 0.42));
  return [Math.max(wide, 110 + step * (heads + 1)), top + 24];
}

/** The curve of an edge: where it begins, two points that pull it, where it ends. */
function curve(edge) {
  const { sender, receiver, node } = edgeOf(edge);
  const [from, to] = [graph.at[sender], graph.at[node]];
  const part = /<([qkv])>$/.exec(about.graph.receivers[receiver][0])?.[1];
  const shift = part ? { q: -1, k: 0, v: 1 }[part] * graph.radius * 0.7 : 0;
  const [x0, y0, x1, y1] = [from.x, from.y - graph.radius, to.x + shift, to.y + graph.radius];
  const pull = Math.max(14, Math.abs(y0 - y1) * 0.4);
  return [x0, y0, x0, y0 - pull, x1, y1 + pull, x1, y1];
}

function drawGraph() {
  if (about.kind !== "edges") return;
  const stage = the("facets");
  if (!graph.canvas) {
    graph.canvas = make("canvas", { tabIndex: 0 });
    graph.canvas.setAttribute("role", "application");
    graph.canvas.setAttribute("aria-label", "graph of edges: arrow keys go from the strongest on, Enter pins");
    graph.canvas.addEventListener("pointermove", pointAtEdge);
    graph.canvas.addEventListener("pointerleave", () => { hideTip(); graph.cursor = -1; paintGraph(); });
    graph.canvas.addEventListener("click", (event) => { pointAtEdge(event); if (graph.cursor >= 0) togglePin(edgePlace(graph.cursor)); });
    graph.canvas.addEventListener("keydown", walkEdges);
    stage.replaceChildren(make("div", { className: "facet" }, sliderOf(), graph.canvas));
  }
  orderEdges();
  const most = graph.order.length ? Math.abs(weight(graph.order[0])) : 1;
  grids.scale = scaleOf(-most, most, true, false, state.palette);
  const [wide, tall] = placeNodes(Math.min(1100, stage.clientWidth || 800));
  graph.size = [wide, tall];
  const ratio = devicePixelRatio || 1;
  graph.canvas.width = wide * ratio;
  graph.canvas.height = tall * ratio;
  graph.canvas.style.width = `${wide}px`;
  graph.canvas.style.height = `${tall}px`;
  paintGraph();
  drawLegend();
}

/** The slider, and what it says. */
function sliderOf() {
  const slider = make("input", { type: "range", min: 0, max: 1000, value: graph.share * 1000, id: "threshold" });
  slider.style.width = "260px";
  slider.addEventListener("input", () => { setShare(slider.value / 1000); paintGraph(); });
  const line = make("label", { className: "hint" }, "edges ", slider, " ", make("span", { id: "threshold-said" }));
  const positions = about.graph.positions ? positionChoice() : null;
  const kept = about.graph.kept ? make("button", { type: "button" }, "circuit alone") : null;
  if (kept) {
    kept.setAttribute("aria-pressed", String(graph.keptOnly));
    kept.addEventListener("click", () => {
      graph.keptOnly = !graph.keptOnly;
      kept.setAttribute("aria-pressed", String(graph.keptOnly));
      choose({});
    });
  }
  return make("div", {}, line, ...[positions, kept].filter(Boolean));
}

function positionChoice() {
  const known = new Set();
  for (let edge = 0; edge < about.cells; edge++) known.add(edgeOf(edge).position);
  const token = (position) => about.views.at(-1)?.base?.tokens[position] ?? "";
  const options = [...known].sort((a, b) => a - b).map((position) => make("option", { value: String(position) }, `${position} ${token(position)}`));
  const select = make("select", {}, make("option", { value: "-1" }, "every position"), ...options);
  select.addEventListener("change", () => { graph.position = Number(select.value); choose({}); });
  return make("label", { className: "hint" }, " position ", select);
}

function paintGraph() {
  const context = sharp(graph.canvas);
  sketch(context, graph.size);
  const count = graph.order.length;
  const least = graph.shown ? Math.abs(weight(graph.order[graph.shown - 1])) : 0;
  the("threshold-said").textContent = `${graph.shown} of ${count}, from ${plain(least)} on`;
}

/** The graph, on whatever canvas. */
function sketch(context, [wide, tall]) {
  context.fillStyle = named("ground");
  context.fillRect(0, 0, wide, tall);
  const most = graph.order.length ? Math.abs(weight(graph.order[0])) : 1;
  const stops = PALETTES[state.palette].diverging;
  const pinned = new Set(pins.map((pin) => pin.cell));
  const touched = graph.cursor >= 0 ? graph.cursor : -1;
  // the weakest first, so that the strongest lie on top
  for (let i = graph.shown - 1; i >= 0; i--) {
    const edge = graph.order[i];
    const share = Math.abs(weight(edge)) / most;
    stroke(context, edge, stops[weight(edge) < 0 ? 1 : 7], 0.6 + 4.4 * share, 0.25 + 0.65 * Math.sqrt(share));
  }
  for (const edge of pinned) stroke(context, edge, named("accent"), 3, 1);
  if (touched >= 0) stroke(context, touched, named("mark"), 2.5, 1);
  context.globalAlpha = 1;
  nodes(context);
}

function stroke(context, edge, colour, width, alpha) {
  const [x0, y0, x1, y1, x2, y2, x3, y3] = curve(edge);
  context.globalAlpha = alpha;
  context.strokeStyle = colour;
  context.lineWidth = width;
  context.beginPath();
  context.moveTo(x0, y0);
  context.bezierCurveTo(x1, y1, x2, y2, x3, y3);
  context.stroke();
}

function nodes(context) {
  const used = new Set(graph.order.slice(0, graph.shown).flatMap((edge) => [edgeOf(edge).sender, edgeOf(edge).node]));
  context.textBaseline = "middle";
  context.textAlign = "center";
  graph.at.forEach((node, index) => {
    context.globalAlpha = used.has(index) ? 1 : 0.35;
    context.beginPath();
    if (node.kind === "a") context.arc(node.x, node.y, graph.radius, 0, 7);
    else context.roundRect(node.x - graph.radius * (node.kind === "m" ? 1.2 : 2.6), node.y - graph.radius * 0.9, graph.radius * (node.kind === "m" ? 2.4 : 5.2), graph.radius * 1.8, 3);
    context.fillStyle = named("panel");
    context.fill();
    context.lineWidth = 1;
    context.strokeStyle = named("soft");
    context.stroke();
    context.fillStyle = named("ink");
    context.font = `${Math.max(7, Math.min(11, graph.radius * 1.1))}px ${FONT}`;
    context.fillText({ a: String(node.head), m: "m" }[node.kind] ?? node.name, node.x, node.y + 0.5);
  });
  context.globalAlpha = 1;
  context.font = `${SMALL}px ${FONT}`;
  context.fillStyle = named("soft");
  context.textAlign = "right";
  const levels = new Map(graph.at.filter((node) => node.kind.length === 1).map((node) => [node.y, node]));
  for (const [y, node] of levels) context.fillText(node.kind === "a" ? `L${node.layer} heads` : `L${node.layer} MLP`, 58, y);
}

/** The shown edge nearest to a point, if it is near. */
function edgeNear(x, y) {
  let [best, least] = [-1, 8];
  for (let i = 0; i < graph.shown; i++) {
    const [x0, y0, x1, y1, x2, y2, x3, y3] = curve(graph.order[i]);
    if (y < y3 - 8 || y > y0 + 8) continue;
    for (let k = 0; k <= 24; k++) {
      const t = k / 24;
      const u = 1 - t;
      const px = u * u * u * x0 + 3 * u * u * t * x1 + 3 * u * t * t * x2 + t * t * t * x3;
      const py = u * u * u * y0 + 3 * u * u * t * y1 + 3 * u * t * t * y2 + t * t * t * y3;
      const far = Math.hypot(px - x, (py - y) * 0.5);
      if (far < least) [least, best] = [far, graph.order[i]];
    }
  }
  return best;
}

function pointAtEdge({ offsetX, offsetY, clientX, clientY }) {
  const edge = edgeNear(offsetX, offsetY);
  if (edge !== graph.cursor) {
    graph.cursor = edge;
    paintGraph();
  }
  if (edge < 0) return hideTip();
  showTip(tipOf(edgePlace(edge)), [clientX, clientY]);
}

function walkEdges(event) {
  const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
  if (step) {
    const at = graph.order.indexOf(graph.cursor);
    graph.cursor = graph.order[Math.min(Math.max(at + step, 0), graph.shown - 1)] ?? -1;
    paintGraph();
    if (graph.cursor < 0) return;
    const box = graph.canvas.getBoundingClientRect();
    const [, , , , , , x, y] = curve(graph.cursor);
    showTip(tipOf(edgePlace(graph.cursor)), [box.left + x, box.top + y]);
    say(`${edgeName(graph.cursor)} ${signed(weight(graph.cursor))}`);
  } else if ((event.key === "Enter" || event.key === " ") && graph.cursor >= 0) togglePin(edgePlace(graph.cursor));
  else return;
  event.preventDefault();
}

/** The lines that patch an edge again. */
function edgeLines(at, pair) {
  const receiver = at.receiver.replace(/<([qkv])>$/, ".$1");
  const flags = [...globalFlags(), "edges", ...promptFlags(pair), "--senders", at.sender, "--receivers", receiver];
  const words = [...promptWords(pair), `senders=${literal(at.sender)}`, `receivers=${literal(receiver)}`];
  if (at.position !== null) {
    flags.push("--per-position");
    words.push("per_position=True");
  }
  const lines = [["shell", asShell([...flags, ...metricFlags()])]];
  // Python's edges are read out at the end
  if (pair.asked.at === null) lines.push(["Python", `${pythonModel()}.edges(${[...words, ...metricWords()].join(", ")})`]);
  return lines;
}

/** The graph as data: nodes and links, with the weights that are shown. */
function graphJson() {
  const links = graph.order.slice(0, graph.shown).map((edge) => {
    const { sender, receiver, node, position } = edgeOf(edge);
    const link = { source: about.graph.nodes[sender], target: about.graph.nodes[node], receiver: about.graph.receivers[receiver][0], weight: weight(edge) };
    return position === null ? link : { ...link, position };
  });
  const nodes = graph.at.map(({ name, kind, layer, head }) => (kind.length === 1 ? { id: name, layer, ...(kind === "a" ? { head } : {}) } : { id: name }));
  const metadata = { ...about.made, value: about.values[state.value].name, weight: changesKnown[state.value] ? "change from the base" : "value", view: about.views[state.view].label };
  return JSON.stringify({ metadata, nodes, links }, null, 1);
}

