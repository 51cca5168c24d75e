// Every line that a page gives for a cell computes that cell, whatever was asked; and what no line computes has none.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { writeFileSync } from "node:fs";
import { after, before, test } from "node:test";
import { Lab, csv, said } from "./lab.mjs";

const PROMPTS = ["--base", "The capital of Spain is", "--source", "The capital of Italy is", "--target", " Madrid", "--target", " Rome"];
const WRONG = ["--wrong-target", " Paris"];
const LAYERS = ["--layers", "1-3"];

/** What is asked, what its lines are made of, and how many of the strongest cells are tried. */
const KINDS = {
  words: { ask: ["sweep", ...PROMPTS, ...WRONG, "--metric", "logit_diff,kl,rank,recovery_logit_diff", "--component", "head_value_output,block_output,mlp_output"], line: /sweep/, tried: 8 },
  together: { ask: ["sweep", ...PROMPTS, "--component", "head_attention_value_output", "--heads", "together", "--positions", "together"], line: /--heads together --positions together/ },
  constant: { ask: ["sweep", ...PROMPTS, ...LAYERS, "--component", "mlp_output", "--op", "set=0.25"], line: /--op set=0.25/ },
  scaled: { ask: ["sweep", ...PROMPTS, ...LAYERS, "--component", "mlp_output", "--op", "scale=-1.5"], line: /--op scale=-1.5/ },
  double: { ask: ["--precision", "f64", "sweep", ...PROMPTS, ...LAYERS, "--component", "block_output"], line: /--precision f64 sweep/ },
  window: { ask: ["sweep", ...PROMPTS, "--component", "mlp_output", "--window", "3"], line: /"layer":\d.*"layer":\d/, tried: 6 },
  noise: { ask: ["sweep", ...PROMPTS, ...LAYERS, "--component", "block_input", "--op", "noise=0.6", "--seed", "7"], line: /"seed":7/ },
  mean: { ask: ["sweep", ...PROMPTS, ...LAYERS, "--component", "mlp_output", "--op", "mean=prompts.txt"], line: /"op":"mean"/ },
  columns: { ask: ["sweep", ...PROMPTS, ...LAYERS, "--component", "mlp_activation", "--columns", "0-40"], line: /"columns":"0-40"/ },
  keys: { ask: ["sweep", ...PROMPTS, "--component", "attention_scores", "--op", "knockout", "--heads", "0", "--positions", "end", "--keys", "all"], line: /"keys":\[\d\]/ },
  at: { ask: ["sweep", ...PROMPTS, "--at", "3", "--target", " is", "--component", "mlp_output", "--metric", "kl"], line: /--at 3/ },
  unequal: { ask: ["sweep", "--base", "The capital of Spain is", "--source", "Rome is the capital of Italy and it is", "--target", " Madrid", "--positions", "end", "--component", "block_output,head_value_output"], line: /"source_positions":\[\d\]/ },
  rows: { ask: ["sweep", "--data", "rows.jsonl", "--component", "block_output,mlp_output", "--metric", "logit_diff"], line: /France/, view: 2 },
  named: { ask: ["sweep", "--data", "rows.jsonl", "--component", "block_output", "--positions", "city.last,end"], line: /France/, view: 2 },
  longer: { ask: ["sweep", "--data", "longer.jsonl", "--component", "block_output", "--positions", "city.last,end"], line: /of France/, view: 2 },
  edges: { ask: ["edges", ...PROMPTS, ...WRONG, "--metric", "logit_diff", "--receivers", "logits,a1"], line: /edges .*--wrong-target-ids/ },
  positions: { ask: ["edges", ...PROMPTS, "--receivers", "m3", "--per-position"], line: /--per-position/, several: true },
};

/** What runs that no one line computes are. */
const NONE = {
  joint: ["sweep", "--base", "The capital of Spain is", "--source", "The capital of Italy is", "--target", " Madrid is", "--joint", ...LAYERS, "--component", "mlp_output"],
  path: ["path", ...PROMPTS, "--receivers", "a1.h0.q", "--freeze", "all"],
  trace: ["trace", "--data", "known.json", "--samples", "3"],
};

let lab;

before(async () => {
  lab = await Lab.open();
  writeFileSync(lab.path("prompts.txt"), "The capital of France is\nThe capital of Japan is\n");
  const row = (before, country, other, capital, wrong) => JSON.stringify({
    base: `${before}The capital of ${country} is`, source: `${before}The capital of ${other} is`, target: ` ${capital}`, wrong_target: ` ${wrong}`, spans: { city: country },
  });
  const first = row("", "Spain", "Italy", "Rome", "Madrid");
  writeFileSync(lab.path("rows.jsonl"), [first, row("", "France", "Spain", "Madrid", "Paris")].join("\n"));
  writeFileSync(lab.path("longer.jsonl"), [first, row("It is so: ", "France", "Spain", "Madrid", "Paris")].join("\n"));
  writeFileSync(lab.path("known.json"), JSON.stringify([{ known_id: 0, subject: "Spain", attribute: "Madrid", template: "The capital of {} is", prompt: "The capital of Spain is" }]));
});

after(() => lab?.close());

/** A number as a page rounds it. */
const near = (a, b) => (Number.isNaN(a) && Number.isNaN(b)) || Math.abs(a - b) <= Math.max(6e-5, 6e-3 * Math.min(Math.abs(a), Math.abs(b))) || a === b;

/** Pins the strongest places, up to so many; of each what it is called, its numbers by column, and its lines. */
async function pinned(page, tried) {
  const strongest = page.locator("#strongest tbody tr");
  const count = Math.min(tried, await strongest.count());
  for (let i = 0; i < count; i++) await strongest.nth(i).click();
  const heads = await page.locator("#pins thead th").allInnerTexts();
  const found = [];
  for (let i = 0; i < count; i++) {
    const cells = await page.locator("#pins tbody tr").nth(i).locator("td").allInnerTexts();
    const numbers = Object.fromEntries(heads.map((name, c) => [name, cells[c]]).slice(2));
    const lines = await page.locator("#pins .rerun").nth(i).locator("code").evaluateAll((codes) => codes.map((code) => [code.title, code.textContent]));
    found.push({ name: cells[1], numbers, lines: Object.fromEntries(lines) });
  }
  return found;
}

/** A table that a line made has the numbers of a place. */
function agrees({ name, numbers }, rows, several, line) {
  const target = name.split(" · ").map((word) => word.replace("_", " "));
  const own = rows.filter((row) => rows.every((other) => other.target === row.target) || target.includes(row.target));
  const positioned = own.filter((row) => !several || name.includes(row.name));
  assert.equal(positioned.length, 1, `${name}: ${rows.length} rows of ${line}`);
  let compared = 0;
  for (const [column, text] of Object.entries(numbers)) {
    if (positioned[0][column] === undefined) continue;
    compared++;
    assert.ok(near(said(text), Number(positioned[0][column])), `${name}: ${column} ${text}, not ${positioned[0][column]}, of ${line}`);
  }
  assert.ok(compared >= 3, name);
}

/** Runs lines of Python in one process; the tables they make. */
function python(lines) {
  if (!process.env.HEADLIGHT_PYTHON) return null;
  const each = lines.map((line, i) => `(${line}).write("python${i}.csv")`);
  execFileSync(process.env.HEADLIGHT_PYTHON, ["-c", ["import headlight as hl", ...each].join("\n")], { cwd: lab.folder, encoding: "utf8" });
  return lines.map((_, i) => lab.table(`python${i}.csv`));
}

for (const [kind, { ask, line: like, tried = 4, view, several }] of Object.entries(KINDS)) {
  test(`lines of ${kind} compute their cells again`, async () => {
    lab.run(...ask, "--plot", `${kind}.html`);
    const page = await lab.show(`${kind}.html`);
    if (view) await page.selectOption("#choose-pair", { index: view });
    const places = await pinned(page, tried);
    assert.ok(places.length >= 2);
    for (const place of places) {
      const { shell } = place.lines;
      assert.match(shell ?? "no line", like, place.name);
      agrees(place, csv(lab.shell(`${shell} --out -`)), several, shell);
    }
    const withLine = places.filter((place) => place.lines.Python);
    assert.ok(withLine.length === (kind === "at" ? withLine.length : places.length), `${places.length} places, ${withLine.length} lines`);
    const tables = python(withLine.map((place) => place.lines.Python));
    tables?.forEach((rows, i) => agrees(withLine[i], rows, several, withLine[i].lines.Python));
    assert.deepEqual(page.complaints, []);
    await page.context().close();
  });
}

for (const [kind, ask] of Object.entries(NONE)) {
  test(`no line is given for a cell of ${kind}`, async () => {
    lab.run(...ask, "--plot", `${kind}.html`);
    const page = await lab.show(`${kind}.html`);
    for (const place of await pinned(page, 3)) assert.deepEqual(place.lines, {}, place.name);
    assert.match(await page.locator("#pins .rerun").first().innerText(), /no single command/);
    await page.context().close();
  });
}

test("the line of an estimate runs it exactly", async () => {
  lab.run("attribute", "nodes", ...PROMPTS, ...WRONG, "--preset", "every-head-by-position", "--metric", "logit_diff", "--verify-top", "400", "--out", "nodes.csv", "--plot", "nodes.html");
  const page = await lab.show("nodes.html");
  for (const { name, numbers, lines } of await pinned(page, 3)) {
    const [row] = csv(lab.shell(`${lines.shell} --metric logit_diff --out -`));
    const [clean] = csv(lab.shell(`headlight sweep ${lines.shell.split(" sweep ")[1].replace(/--positions \S+/, "--positions 0")} --op scale=1 --metric logit_diff --out -`));
    assert.ok(near(said(numbers.exact), row.logit_diff - clean.logit_diff), `${name}: ${numbers.exact}, ${row.logit_diff}, ${clean.logit_diff}`);
  }
  assert.match(await page.locator("#pins .rerun").first().innerText(), /^exactly: /);
  await page.context().close();
});

test("prompts that no text is taken apart to are given by their ids", async () => {
  lab.run("sweep", "--base-ids", "51,71,68", "--source-ids", "51,71,69", ...LAYERS, "--component", "mlp_output", "--plot", "ids.html");
  const page = await lab.show("ids.html");
  for (const place of await pinned(page, 3)) {
    const { shell } = place.lines;
    assert.match(shell, /--base-ids 51,71,68 --source-ids 51,71,69/);
    agrees(place, csv(lab.shell(`${shell} --out -`)), false, shell);
  }
  await page.context().close();
});
