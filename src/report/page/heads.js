// Attention patterns at a glance: every head small, layers upward; a click opens one.

const overview = { canvas: null, side: 0, layers: [], columns: 0 };

/** Draws every head of the view. */
function drawHeads() {
  if (about.kind !== "attention") return;
  const own = about.facets.filter((facet) => facet.view === state.view);
  const layers = [...new Set(own.map((facet) => facet.rows[0].layer))].sort((a, b) => b - a);
  const columns = Math.max(...own.map((facet) => facet.head)) + 1;
  const side = Math.max(14, Math.min(64, Math.floor(520 / Math.max(columns, layers.length)) - 4));
  Object.assign(overview, { side, layers, columns });
  const canvas = make("canvas", { tabIndex: 0 });
  canvas.setAttribute("role", "application");
  canvas.setAttribute("aria-label", "all heads: arrow keys choose one");
  const [wide, tall] = [40 + columns * (side + 4), layers.length * (side + 4) + 18];
  const ratio = devicePixelRatio || 1;
  canvas.width = wide * ratio;
  canvas.height = tall * ratio;
  canvas.style.width = `${wide}px`;
  canvas.style.height = `${tall}px`;
  const context = sharp(canvas);
  context.font = `${SMALL}px ${FONT}`;
  context.textBaseline = "middle";
  context.fillStyle = named("soft");
  context.textAlign = "right";
  layers.forEach((layer, line) => context.fillText(`L${layer}`, 30, line * (side + 4) + side / 2));
  context.textAlign = "center";
  for (let head = 0; head < columns; head++) context.fillText(`${head}`, 36 + head * (side + 4) + side / 2, tall - 9);
  // small pictures are smoothed: a token may be less than a pixel
  context.imageSmoothingEnabled = true;
  own.forEach((facet, index) => {
    const panel = panelOf(facet, 0);
    paint(panel, grids.scale, named("empty"));
    const [x, y] = [36 + facet.head * (side + 4), layers.indexOf(facet.rows[0].layer) * (side + 4)];
    context.imageSmoothingEnabled = facet.rows.length > side;
    context.drawImage(panel.tiles[0], x, y, side, side);
    const chosen = index === Math.max(0, state.facet);
    context.lineWidth = chosen ? 2.5 : 1;
    context.strokeStyle = named(chosen ? "accent" : "rule");
    context.strokeRect(x - 0.5, y - 0.5, side + 1, side + 1);
  });
  const pick = (layer, head) => {
    const index = own.findIndex((facet) => facet.rows[0].layer === layer && facet.head === head);
    if (index >= 0) choose({ facet: index });
  };
  canvas.addEventListener("click", (event) => {
    const head = Math.floor((event.offsetX - 36) / (side + 4));
    pick(layers[Math.floor(event.offsetY / (side + 4))], head);
  });
  canvas.addEventListener("keydown", (event) => {
    const move = STEPS_OF[event.key];
    if (!move) return;
    event.preventDefault();
    const here = own[Math.max(0, state.facet)];
    const line = layers.indexOf(here.rows[0].layer);
    pick(layers[line - move[0]] ?? here.rows[0].layer, here.head + move[1]);
  });
  const focused = overview.canvas !== null && overview.canvas === document.activeElement;
  overview.canvas = canvas;
  the("heads").replaceChildren(canvas);
  if (focused) canvas.focus({ preventScroll: true });
}

