// The command, and the line of Python, that computes a place again: a sweep's words where they say all that was run,
// else an experiment made of the run's own patches; and none where neither says it.

/** A word as a shell takes it. */
function quoted(word) {
  return /^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`;
}

const asShell = (words) => words.map(quoted).join(" ");

/** A value as Python writes it; JSON's escapes are Python's. */
function literal(value) {
  if (Array.isArray(value)) return `[${value.map(literal).join(", ")}]`;
  if (value !== null && typeof value === "object") return `{${Object.entries(value).map(([key, x]) => `${JSON.stringify(key)}: ${literal(x)}`).join(", ")}}`;
  return value === null ? "None" : value === true ? "True" : value === false ? "False" : JSON.stringify(value);
}

/** Text that may be read as something else than it was. */
const isAmbiguous = (text) => !text || text.includes("<|") || text.includes("\ufffd") || text.includes("\\x");

/** A prompt as text, or, where only they are sure, its ids. */
function asTyped(pair, prompt) {
  return pair.asked?.ids || isAmbiguous(prompt.text) ? prompt.ids : prompt.text;
}

/** The pair that a place is computed again for: of a mean the first. */
function pairOf(at) {
  return about.views[hasMean && at.view === 0 ? 1 : at.view];
}

/** A pair's targets: texts, or, where a text may be read as something else, ids. */
function targetsOf(pair) {
  const texts = pair.targets.map(([, text]) => text);
  // without a tokenizer nothing has a text
  const typed = pair.base.text && !texts.some(isAmbiguous);
  return typed ? { texts, ids: [] } : { texts: [], ids: pair.targets.map(([id]) => id) };
}

/** Flags of the model and of how it is run. */
function globalFlags() {
  const { model, precision } = about.made;
  const flags = ["headlight"];
  if (model && model !== "demo") flags.push("--model", model);
  if (precision && precision !== "f32") flags.push("--precision", precision);
  return flags;
}

/** The same in Python. */
function pythonModel() {
  const { model, precision } = about.made;
  return `hl.Model(${literal(model || "demo")}${precision && precision !== "f32" ? `, precision=${literal(precision)}` : ""})`;
}

const ownMetrics = () => about.values.filter((column) => column.metric).map((column) => column.name);

/** What a sweep of edges or sites is asked beside them. */
function promptFlags(pair) {
  const flags = [];
  for (const [name, prompt] of [["base", pair.base], ["source", pair.source]]) {
    if (!prompt) continue;
    const typed = asTyped(pair, prompt);
    flags.push(...(Array.isArray(typed) ? [`--${name}-ids`, typed.join(",")] : [`--${name}`, typed]));
  }
  const { texts, ids } = targetsOf(pair);
  texts.forEach((text) => flags.push("--target", text));
  if (ids.length) flags.push("--target-ids", ids.join(","));
  if (pair.asked.wrong.length) flags.push("--wrong-target-ids", pair.asked.wrong.join(","));
  if (pair.asked.at !== null) flags.push("--at", String(pair.asked.at));
  return flags;
}

function metricFlags() {
  const own = ownMetrics();
  return own.length ? ["--metric", own.join(",")] : [];
}

/** The same as arguments of Python; wrong answers are ids there too. */
function promptWords(pair) {
  const words = [literal(asTyped(pair, pair.base))];
  if (pair.source) words.push(literal(asTyped(pair, pair.source)));
  const { texts, ids } = targetsOf(pair);
  words.push(`targets=${literal(texts.length ? texts : ids)}`);
  if (pair.asked.wrong.length) words.push(`wrong_targets=${literal(pair.asked.wrong)}`);
  return words;
}

function metricWords() {
  const own = ownMetrics();
  return own.length ? [`metrics=${literal(own)}`] : [];
}

/** The patches of a cell's run, or null where nothing says them all. */
function patchesOf(at) {
  const { runs } = at.facet;
  if (!runs?.length) return null;
  let run = runs.length > 1 ? runs[at.cell - at.facet.offset] : runs[0];
  const pair = pairOf(at);
  if (run < -1) {
    const first = about.views.find((view) => view.pair !== null);
    if (pair !== first) return null;
    run = -2 - run;
  }
  if (!(run >= 0)) return null;
  const [position, source] = at.name ? (pair.asked.stands[at.name] ?? [null, null]) : [at.position, at.position];
  const holes = { L: at.layer, H: at.head, P: position, S: source };
  let whole = true;
  const text = about.runs[run].replace(/("layer":|"(?:heads|positions|source_positions)":\[)([LHPS])([+-]\d+)?/g, (_, key, letter, away) => {
    whole &&= holes[letter] !== null && holes[letter] !== undefined;
    return key + (holes[letter] + Number(away ?? 0));
  });
  if (!whole) return null;
  const patches = JSON.parse(text);
  // numbers that came from a program stand in no file
  const isWritten = ({ op, value }) => value === undefined || isNumber(value) || op.startsWith("mean") || value.includes(".safetensors#");
  return patches.every(isWritten) ? patches : null;
}

const isNumber = (text) => !Number.isNaN(Number(text));

/** A patch as a sweep's words, or null where they do not say it. */
function sweepWords(at, patches, pair) {
  const [patch, ...more] = patches;
  const { component, layer, heads, positions, op, value, alpha, ...rest } = patch;
  const all = (list, count) => list.length === count && list.every((x, i) => x === i);
  const numbered = value === undefined || isNumber(value);
  const plainOp = ["interchange", "zero", "knockout", "skip", "set", "scale", "interpolate"].includes(op);
  if (more.length || Object.keys(rest).length || !numbered || !plainOp) return null;
  const words = { component };
  if (layer !== undefined) words.layers = layer;
  if (heads?.length === 1) words.heads = heads[0];
  else if (heads && all(heads, heads.length)) words.heads = "together";
  else if (heads) return null;
  if (positions.length === 1) words.positions = positions[0];
  else if (all(positions, pair.base.ids.length)) words.positions = "together";
  else return null;
  const amount = value ?? alpha;
  if (op !== "interchange") words.op = amount === undefined ? op : `${op}=${amount}`;
  return words;
}

/** The experiment of one pair and one run. */
function experimentOf(pair, patches) {
  const prompt = (name, of) => {
    const typed = asTyped(pair, of);
    return { [Array.isArray(typed) ? `${name}_ids` : name]: typed };
  };
  const { texts, ids } = targetsOf(pair);
  const asked = {
    ...prompt("base", pair.base),
    ...(pair.source ? prompt("source", pair.source) : {}),
    ...(texts.length ? { targets: texts } : { target_ids: ids }),
    ...(pair.asked.wrong.length ? { wrong_target_ids: pair.asked.wrong } : {}),
  };
  return { pair: [asked], run: [{ patches }] };
}

/** The lines that compute a place again, each with the language it is in. */
function linesOf(at) {
  const pair = pairOf(at);
  if (!pair?.base) return [];
  if (about.kind === "attention") {
    const typed = asTyped(pair, pair.base);
    const prompt = Array.isArray(typed) ? ["--ids", typed.join(",")] : [typed];
    return [["shell", asShell([...globalFlags(), "cache", ...prompt, "--component", at.component, "--layers", String(at.layer), "--plot", "attention.html"])]];
  }
  if (!pair.asked) return [];
  if (about.kind === "edges") return edgeLines(at, pair);
  const patches = patchesOf(at);
  if (!patches) return [];
  const words = sweepWords(at, patches, pair);
  const isAt = pair.asked.at !== null;
  if (words) {
    const { component, ...places } = words;
    const flags = Object.entries(places).flatMap(([name, word]) => [`--${name}`, String(word)]);
    const named = Object.entries(places).map(([name, word]) => `${name}=${literal(word)}`);
    const also = [...named, ...(isAt ? [`at=${pair.asked.at}`] : []), ...metricWords()];
    return [
      ["shell", asShell([...globalFlags(), "sweep", ...promptFlags(pair), "--component", component, ...flags, ...metricFlags()])],
      ["Python", `${pythonModel()}.sweep(${[...promptWords(pair), `components=${literal(component)}`, ...also].join(", ")})`],
    ];
  }
  const experiment = experimentOf(pair, patches);
  const atFlags = isAt ? ["--at", String(pair.asked.at)] : [];
  const run = asShell([...globalFlags(), "run", "cell.json", ...atFlags, ...metricFlags()]);
  const lines = [["shell", `printf '%s' ${quoted(JSON.stringify(experiment))} > cell.json && ${run}`]];
  // Python's run reads out the end
  if (!isAt) lines.push(["Python", `${pythonModel()}.run(${[literal(experiment), ...metricWords()].join(", ")})`]);
  return lines;
}
