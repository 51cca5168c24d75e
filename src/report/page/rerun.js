// The command, and the line of Python, that computes a cell again.

/** A word as a shell takes it. */
function quoted(word) {
  return /^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`;
}

/** Text as Python writes it; JSON's escapes are Python's. */
function literal(text) {
  return JSON.stringify(text);
}

/** A prompt as text, or, where its text may be read as something else, as ids. */
function asTyped(prompt) {
  return prompt.text && !prompt.text.includes("<|") && !prompt.text.includes("\ufffd") ? prompt.text : null;
}

/** The pair that a place is computed again for: of a mean the first. */
function pairOf(at) {
  return about.views[hasMean && at.view === 0 ? 1 : at.view];
}

/** Flags of the model and of how it is run. */
function globalFlags() {
  const { model, precision } = about.made;
  const flags = ["headlight"];
  if (model && model !== "demo") flags.push("--model", model);
  if (precision && precision !== "f32") flags.push("--precision", precision);
  return flags;
}

function promptFlags(pair) {
  const flags = [];
  for (const [name, prompt] of [["base", pair.base], ["source", pair.source]]) {
    if (!prompt) continue;
    const text = asTyped(prompt);
    flags.push(...(text === null ? [`--${name}-ids`, prompt.ids.join(",")] : [`--${name}`, text]));
  }
  for (const [id, text] of pair.targets) {
    const typed = text && !text.includes("\\x") && !text.includes("\ufffd");
    flags.push(...(typed ? ["--target", text] : ["--target-ids", String(id)]));
  }
  return flags;
}

/** Metrics that need nothing that the page does not know, such as wrong answers. */
function metricFlags() {
  const own = about.values.map((column) => column.name);
  const known = own.filter((name) => /^(rank|kl|top1|entropy|recovery_(prob|logprob|logit|rank|kl|entropy))$/.test(name));
  return known.length ? ["--metric", known.join(",")] : [];
}

/** The patch of one of a facet's runs, as an experiment file has it. */
function patchOf(facet) {
  try {
    return JSON.parse(facet.patches)[0] ?? {};
  } catch {
    return {};
  }
}

/** Which head, or that one run patches all of them. */
function headWord(at) {
  if (at.headed) return at.head;
  return (patchOf(at.facet).heads ?? []).length > 1 ? "together" : null;
}

/** Columns and bases, which the operator does not say. */
function subspaceFlags(facet) {
  const patch = patchOf(facet);
  const flags = [];
  if (Array.isArray(patch.columns)) flags.push("--columns", patch.columns.join(","));
  if (typeof patch.basis === "string") flags.push("--basis", patch.basis);
  return flags;
}

/** The command of a cell, or null where a sweep has no words for it. */
function commandOf(at) {
  const pair = pairOf(at);
  if (!pair?.base) return null;
  if (about.kind === "attention") {
    const text = asTyped(pair.base);
    const prompt = text === null ? ["--ids", pair.base.ids.join(",")] : [text];
    return [...globalFlags(), "cache", ...prompt, "--component", at.component, "--layers", String(at.layer), "--plot", "attention.html"].map(quoted).join(" ");
  }
  if (about.kind === "edges") return edgeCommand(at, pair);
  if (at.facet.op === "restored") return null;
  const flags = [...globalFlags(), "sweep", ...promptFlags(pair), "--component", at.component];
  if (at.layer !== null) flags.push("--layers", String(at.layer));
  const head = headWord(at);
  if (head !== null) flags.push("--heads", String(head));
  const position = at.position ?? at.name;
  if (position !== null && position !== undefined) flags.push("--positions", String(position));
  else if (at.facet.groups.length === 1) flags.push("--positions", "together");
  else return null;
  if (at.facet.op && at.facet.op !== "interchange") flags.push("--op", at.facet.op);
  return [...flags, ...subspaceFlags(at.facet), ...metricFlags()].map(quoted).join(" ");
}

/** The same in Python. */
function pythonOf(at) {
  const pair = pairOf(at);
  if (!pair?.base || about.kind !== "cells" || at.facet.op === "restored" || subspaceFlags(at.facet).length) return null;
  const prompt = (of) => (asTyped(of) === null ? `[${of.ids.join(", ")}]` : literal(of.text));
  const words = [prompt(pair.base)];
  if (pair.source) words.push(prompt(pair.source));
  words.push(`targets=[${pair.targets.map(([, text]) => literal(text)).join(", ")}]`, `components=${literal(at.component)}`);
  if (at.layer !== null) words.push(`layers=${at.layer}`);
  const head = headWord(at);
  if (head !== null) words.push(`heads=${typeof head === "number" ? head : literal(head)}`);
  const position = at.position ?? at.name;
  if (position !== null && position !== undefined) words.push(`positions=${typeof position === "number" ? position : literal(position)}`);
  else words.push('positions="together"');
  if (at.facet.op && at.facet.op !== "interchange") words.push(`op=${literal(at.facet.op)}`);
  return `hl.Model(${literal(about.made.model || "demo")}).sweep(${words.join(", ")})`;
}

