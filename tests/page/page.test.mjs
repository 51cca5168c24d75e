// What a page does in a browser. `.ci/page` runs it; `HEADLIGHT=… npm test` runs it here.

import assert from "node:assert/strict";
import { readFileSync, writeFileSync } from "node:fs";
import { after, before, test } from "node:test";
import { Lab, csv, said } from "./lab.mjs";

const PROMPTS = ["--base", "The capital of Spain is", "--source", "The capital of Italy is", "--target", " Madrid", "--target", " Rome"];
const CODE = "<script>window.ran = 1; alert(1)</script><img src=x onerror=alert(2)>";

let lab;

before(async () => {
  lab = await Lab.open();
  lab.run("sweep", ...PROMPTS, "--wrong-target", " Paris", "--metric", "logit_diff,kl", "--component", "head_value_output", "--out", "sweep.csv", "--plot", "sweep.html");
  lab.run("sweep", ...PROMPTS, "--component", "block_output,head_value_output,mlp_output", "--heads", "0", "--plot", "together.html");
  const pair = (country, capital, other, wrong) => JSON.stringify({ base: `The capital of ${country} is`, source: `The capital of ${other} is`, target: ` ${wrong}`, wrong_target: ` ${capital}` });
  writeFileSync(lab.path("pairs.jsonl"), [pair("Spain", "Madrid", "Italy", "Rome"), pair("France", "Paris", "Spain", "Madrid")].join("\n"));
  lab.run("sweep", "--data", "pairs.jsonl", "--metric", "logit_diff", "--heads", "0", "--out", "pairs.csv", "--plot", "pairs.html");
  lab.run("edges", ...PROMPTS, "--out", "edges.csv", "--plot", "edges.html");
  lab.run("cache", "The capital of Spain is", "--component", "attention_weight", "--plot", "attention.html");
  lab.run("sweep", "--base", `${CODE} Spain is`, "--source", `${CODE} Italy is`, "--target", " Rome", "--heads", "0", "--plot", "code.html");
});

after(() => lab?.close());

const tipText = (page) => page.locator("#tip").innerText();

/** Values of the tip by column: what the cell has, and its change. */
async function tipValues(page) {
  const rows = await page.locator("#tip tbody tr").evaluateAll((rows) => rows.map((row) => [...row.cells].map((cell) => cell.textContent)));
  return Object.fromEntries(rows.map(([name, ...values]) => [name, values]));
}

/** What is drawn, in short. */
const pixels = (page, at = 0) => page.locator(".facet canvas").nth(2 * at).evaluate((canvas) => canvas.toDataURL());

test("pages load without a complaint and without a request", async () => {
  for (const name of ["sweep", "together", "pairs", "edges", "attention", "code"]) {
    const page = await lab.show(`${name}.html`);
    assert.deepEqual(page.complaints, [], name);
    assert.ok(await page.locator(".facet canvas").count(), name);
    await page.context().close();
  }
});

test("code in a prompt is text", async () => {
  const page = await lab.show("code.html");
  assert.equal(await page.evaluate(() => window.ran), undefined);
  assert.equal(await page.locator("img").count(), 0);
  // the page's own: four with data, one that runs
  assert.equal(await page.locator("script").count(), 5);
  assert.ok((await page.locator("#title").innerText()).includes(CODE));
  // even who could write into the page could not run anything: the policy does not let it
  await page.evaluate(() => {
    const script = document.createElement("script");
    script.textContent = "window.ran = 2";
    document.body.append(script);
  });
  assert.equal(await page.evaluate(() => window.ran), undefined);
  assert.ok(page.complaints.some((text) => text.includes("Content Security Policy")));
  await page.context().close();
});

test("what is pointed at says every column of the table", async () => {
  const rows = lab.table("sweep.csv");
  const page = await lab.show("sweep.html");
  const canvas = page.locator(".facet canvas").first();
  const box = await canvas.boundingBox();
  const seen = new Set();
  for (let i = 0; i < 12; i++) {
    await page.mouse.move(box.x + 60 + i * 47, box.y + 5 + ((i * 29) % 75));
    await page.evaluate(() => new Promise(requestAnimationFrame));
    // between two positions there is nothing
    if (await page.locator("#tip").isHidden()) continue;
    const place = /v(\d) · head (\d) · position (\d)/.exec(await tipText(page));
    const [, layer, head, position] = place;
    seen.add(place[0]);
    const row = rows.find((row) => row.layer === layer && row.head === head && row.position === position);
    for (const [name, [value]] of Object.entries(await tipValues(page))) {
      assert.ok(Math.abs(said(value) - Number(row[name])) <= 6e-3 * Math.abs(Number(row[name])) + 6e-5, `${name} of ${place[0]}: ${value} for ${row[name]}`);
    }
  }
  assert.ok(seen.size >= 8, [...seen].join());
  await page.context().close();
});

test("switches change what is drawn", async () => {
  const page = await lab.show("sweep.html");
  const first = await pixels(page);
  assert.match(await page.locator("#strongest h2").innerText(), /changes of logit_diff$/);
  await page.selectOption("#choose-metric", { label: "prob" });
  assert.match(await page.locator("#strongest h2").innerText(), /changes of probability$/);
  assert.equal(await page.locator("figure").count(), 2);
  assert.notEqual(await pixels(page), first);
  await page.selectOption("#choose-target", { label: "_Rome" });
  assert.equal(await page.locator("figure").count(), 1);
  assert.match(await page.locator("figcaption").innerText(), /^_Rome/);
  const all = await page.locator(".facet canvas").first().boundingBox();
  await page.selectOption("#choose-head", { label: "0" });
  assert.ok((await page.locator(".facet canvas").first().boundingBox()).width < all.width);
  await page.selectOption("#choose-head", { label: "strongest" });
  await page.selectOption("#choose-palette", { label: "colour-blind" });
  assert.deepEqual(page.complaints, []);
  await page.context().close();

  const pairs = await lab.show("pairs.html");
  const rows = lab.table("pairs.csv");
  const labels = await pairs.locator("#choose-pair option").allInnerTexts();
  assert.equal(labels.length, 3);
  assert.match(labels[0], /mean over 2 pairs/);
  for (const [pair, name] of labels.slice(1).entries()) {
    await pairs.selectOption("#choose-pair", { label: name });
    await pairs.selectOption("#choose-metric", { label: "logit_diff" });
    const cells = await pairs.locator("#strongest tbody tr").first().locator("td").allInnerTexts();
    const own = rows.filter((row) => row.pair === String(pair));
    const near = (row) => Math.abs(Number(row.logit_diff) - said(cells.at(-2))) < 6e-3 * Math.abs(Number(row.logit_diff)) + 1e-4;
    assert.ok(own.some((row) => near(row) && cells.some((cell) => cell.endsWith(row.token.replace(" ", "_")))), `${cells} of ${name}`);
  }
  await pairs.context().close();
});

test("pins compare, and their command computes the cell again", async () => {
  const page = await lab.show("sweep.html");
  await page.selectOption("#choose-metric", { label: "prob" });
  const lines = page.locator("#strongest tbody tr");
  await lines.nth(0).click();
  await lines.nth(1).click();
  assert.equal(await page.locator("#pins tbody tr").count(), 2);
  assert.ok((await page.locator("#pins thead").innerText()).includes("first"));
  const codes = await page.locator("#pins code").allInnerTexts();
  assert.equal(codes.length, 4);
  assert.match(codes[1], /^hl\.Model\("demo"\)\.sweep\("The capital of Spain is", .*layers=0/);
  for (const [i, line] of [codes[0], codes[2]].entries()) {
    assert.match(line, /^headlight sweep --base 'The capital of Spain is'/);
    const again = csv(lab.shell(`${line} --out -`));
    const cells = await page.locator("#pins tbody tr").nth(i).locator("td").allInnerTexts();
    const target = cells[1].split(" · ").at(-1).replace("_", " ");
    const row = again.find((row) => row.target === target);
    assert.equal(again.length, 2, line);
    assert.ok(Math.abs(said(cells[3]) - Number(row.prob)) < 1e-4, `${cells} for ${row.prob}`);
  }
  // the same again takes the pin away, and Escape takes away all
  await lines.nth(0).click();
  assert.equal(await page.locator("#pins tbody tr").count(), 1);
  await page.keyboard.press("Escape");
  assert.equal(await page.locator("#pins tbody tr").count(), 0);
  // a click on a cell pins it
  const box = await page.locator(".facet canvas").first().boundingBox();
  await page.mouse.click(box.x + box.width * 0.5, box.y + 20);
  assert.equal(await page.locator("#pins tbody tr").count(), 1);
  assert.deepEqual(page.complaints, []);
  await page.context().close();
});

test("an edge's command computes it again, and a head's shows it", async () => {
  const page = await lab.show("edges.html");
  await page.locator("#strongest tbody tr").first().click();
  const cells = await page.locator("#pins tbody tr td").allInnerTexts();
  const line = await page.locator("#pins code").first().innerText();
  const again = csv(lab.shell(`${line} --out -`));
  const row = again.find((row) => row.target === " Madrid" && row.name === cells[1].split(" · ")[0]);
  assert.ok(Math.abs(said(cells[3]) - Number(row.prob)) < 1e-4, `${cells} for ${row?.prob}`);
  await page.context().close();

  const attention = await lab.show("attention.html");
  await attention.locator("#strongest tbody tr").first().click();
  const show = await attention.locator("#pins code").first().innerText();
  assert.match(show, /^headlight cache 'The capital of Spain is' --component attention_weight --layers \d --plot attention\.html$/);
  lab.shell(show.replace("attention.html", "again.html"));
  await attention.context().close();
});

test("the strongest sort by every column", async () => {
  const page = await lab.show("sweep.html");
  const column = async (i) => (await page.locator("#strongest tbody tr").allInnerTexts()).map((line) => line.split("\t")[i]);
  const heads = await page.locator("#strongest th").allInnerTexts();
  const sizes = (await column(heads.length - 1)).map((text) => Math.abs(said(text)));
  assert.deepEqual(sizes, sizes.toSorted((a, b) => b - a));
  await page.locator("#strongest th button", { hasText: "patched" }).click();
  assert.equal(await page.locator("#strongest th", { hasText: "patched" }).getAttribute("aria-sort"), "descending");
  const patched = heads.findIndex((head) => head.includes("patched"));
  const down = (await column(patched)).map(said);
  assert.deepEqual(down, down.toSorted((a, b) => b - a));
  await page.keyboard.press("Enter");
  const up = (await column(patched)).map(said);
  assert.deepEqual(up, up.toSorted((a, b) => a - b));
  await page.context().close();
});

/** Presses a button and returns what is saved. */
async function saved(page, name) {
  const [download] = await Promise.all([page.waitForEvent("download"), page.getByRole("button", { name, exact: true }).click()]);
  return readFileSync(await download.path());
}

test("downloads hold what is shown", async () => {
  const page = await lab.show("sweep.html");
  const png = await saved(page, "PNG");
  assert.equal(png.subarray(1, 4).toString(), "PNG");
  assert.ok(png.readUInt32BE(16) > 700 && png.readUInt32BE(20) > 200);
  const svg = (await saved(page, "SVG")).toString();
  const problems = await page.evaluate((text) => new DOMParser().parseFromString(text, "image/svg+xml").querySelector("parsererror")?.textContent, svg);
  assert.equal(problems, undefined);
  assert.ok(svg.includes("_Spain") && svg.match(/<rect/g).length >= 100);
  const lines = csv((await saved(page, "CSV")).toString());
  const rows = lab.table("sweep.csv");
  assert.equal(lines.length, rows.length);
  for (const line of lines) {
    const row = rows.find((row) => ["layer", "head", "position"].every((key) => row[key] === line[key]) && row.target === line.target.replace("_", " "));
    for (const name of ["prob", "logprob", "logit", "kl", "logit_diff"]) assert.equal(Math.fround(Number(line[name])), Math.fround(Number(row[name])), name);
  }
  await page.context().close();

  const code = await lab.show("code.html");
  const drawn = (await saved(code, "SVG")).toString();
  assert.ok(!drawn.includes("<script") && drawn.includes("&lt;script"));
  await code.context().close();

  const edges = await lab.show("edges.html");
  const graph = JSON.parse(await saved(edges, "JSON"));
  assert.ok(graph.links.length > 5 && graph.nodes.length > 10);
  const table = lab.table("edges.csv");
  for (const { source, receiver, weight } of graph.links) {
    const row = table.find((row) => row.name === `${source}->${receiver}` && row.target === " Madrid");
    assert.ok(Math.abs(weight - (Number(row.prob) - Number(row.base_prob))) < 1e-6);
  }
  assert.equal((await saved(edges, "PNG")).subarray(1, 4).toString(), "PNG");
  assert.ok((await saved(edges, "SVG")).toString().includes("<path"));
  await edges.context().close();
});

test("everything is reached by keys", async () => {
  const page = await lab.show("sweep.html");
  for (let i = 0; i < 40; i++) {
    await page.keyboard.press("Tab");
    if (await page.evaluate(() => document.activeElement.getAttribute("role") === "application")) break;
  }
  await page.keyboard.press("ArrowRight");
  const first = await tipText(page);
  assert.match(first, /v4 · head 0 · position 0/);
  await page.keyboard.press("ArrowRight");
  await page.keyboard.press("ArrowDown");
  assert.match(await tipText(page), /v3 · head 1 · position 0/);
  assert.match(await page.locator("#said").innerText(), /v3 · head 1 .*logit_diff/);
  await page.keyboard.press("Shift+ArrowRight");
  assert.match(await tipText(page), /position 1/);
  await page.keyboard.press("End");
  assert.match(await tipText(page), /position 4/);
  await page.keyboard.press("Enter");
  assert.equal(await page.locator("#pins tbody tr").count(), 1);
  const metric = () => page.locator("#choose-metric").inputValue();
  const before = await metric();
  await page.keyboard.press("m");
  assert.notEqual(await metric(), before);
  await page.keyboard.press("Shift+M");
  assert.equal(await metric(), before);
  const drawn = await pixels(page);
  await page.keyboard.press("b");
  assert.notEqual(await pixels(page), drawn);
  await page.keyboard.press("+");
  await page.keyboard.press("?");
  assert.ok(await page.locator("#help").isVisible());
  await page.keyboard.press("Escape");
  // that closed the help and nothing else
  assert.equal(await page.locator("#pins tbody tr").count(), 1);
  assert.deepEqual(page.complaints, []);
  await page.context().close();

  const edges = await lab.show("edges.html");
  await edges.locator(".facet canvas").focus();
  await edges.keyboard.press("ArrowRight");
  await edges.keyboard.press("Enter");
  assert.equal(await edges.locator("#pins tbody tr").count(), 1);
  assert.deepEqual(edges.complaints, []);
  await edges.context().close();
});

test("the slider shows more or fewer edges", async () => {
  const page = await lab.show("edges.html");
  const counted = async () => Number((await page.locator("#threshold-said").innerText()).split(" ")[0]);
  const set = (value) => page.locator("#threshold").evaluate((slider, value) => {
    slider.value = value;
    slider.dispatchEvent(new Event("input"));
  }, value);
  await set(0);
  assert.equal(await counted(), 1);
  const one = await pixels(page);
  await set(1000);
  assert.ok((await counted()) > 100);
  assert.notEqual(await pixels(page), one);
  await page.context().close();
});

test("a head of the overview is opened by a click", async () => {
  const page = await lab.show("attention.html");
  const box = await page.locator("#heads canvas").boundingBox();
  await page.mouse.click(box.x + box.width - 20, box.y + 20);
  assert.equal(await page.locator("figcaption").innerText(), "L4 H3");
  const canvas = await page.locator(".facet canvas").first().boundingBox();
  await page.mouse.move(canvas.x + canvas.width - 30, canvas.y + 30);
  await page.evaluate(() => new Promise(requestAnimationFrame));
  assert.match(await tipText(page), /query 0 The · key 4 _is/);
  await page.context().close();
});

test("dark is dark, and paper is white", async () => {
  const ground = (page) => page.evaluate(() => getComputedStyle(document.documentElement).backgroundColor);
  const page = await lab.show("sweep.html", { colorScheme: "dark" });
  assert.equal(await ground(page), "rgb(22, 24, 28)");
  await page.keyboard.press("d");
  assert.equal(await ground(page), "rgb(255, 255, 255)");
  await page.keyboard.press("d");
  await page.evaluate(() => dispatchEvent(new Event("beforeprint")));
  assert.equal(await ground(page), "rgb(255, 255, 255)");
  await page.emulateMedia({ media: "print" });
  assert.ok(!(await page.locator("#controls").isVisible()));
  await page.evaluate(() => dispatchEvent(new Event("afterprint")));
  assert.equal(await ground(page), "rgb(22, 24, 28)");
  assert.ok((await page.pdf()).subarray(0, 4).toString() === "%PDF");
  await page.context().close();
});

/** Milliseconds of the main thread's own time for each frame in which something was done: what else the machine does
 * is not the page's. */
async function perFrame(page, frames, act) {
  const session = await page.context().newCDPSession(page);
  await session.send("Performance.enable", { timeDomain: "threadTicks" });
  const busy = async () => (await session.send("Performance.getMetrics")).metrics.find((metric) => metric.name === "TaskDuration").value;
  const start = await busy();
  await page.evaluate(act, frames);
  return (1000 * ((await busy()) - start)) / frames;
}

/** Points at, and scrolls to, something else in each frame. */
const wander = async (frames) => {
  const canvas = document.querySelector(".facet canvas");
  const scroll = document.querySelector(".facet .scroll");
  const box = canvas.getBoundingClientRect();
  for (let i = 0; i < frames; i++) {
    const at = { clientX: box.left + 60 + ((i * 37) % (box.width - 80)), clientY: box.top + ((i * 5) % 90), bubbles: true };
    canvas.dispatchEvent(new PointerEvent("pointermove", at));
    scroll.scrollLeft = i * 23;
    await new Promise(requestAnimationFrame);
  }
};

test("a hundred thousand cells stay at sixty frames a second", async (context) => {
  const cells = lab.grow("sweep.html", "large.html", 12, 12, 700);
  assert.equal(cells, 100800);
  const page = await lab.show("large.html");
  const moving = await perFrame(page, 120, wander);
  const switching = await page.evaluate(async () => {
    const start = performance.now();
    for (let i = 0; i < 10; i++) {
      dispatchEvent(new KeyboardEvent("keydown", { key: "m" }));
      await new Promise(requestAnimationFrame);
    }
    return (performance.now() - start) / 10;
  });
  context.diagnostic(`${cells} cells: opened in ${page.opened.toFixed(0)} ms, ${moving.toFixed(1)} ms a frame, ${switching.toFixed(0)} ms a switch`);
  assert.ok(moving < 1000 / 60, `${moving} ms a frame`);
  assert.deepEqual(page.complaints, []);
  await page.context().close();
});

test("a million cells open", async (context) => {
  const cells = lab.grow("sweep.html", "million.html", 48, 25, 834);
  assert.ok(cells > 1e6);
  const page = await lab.show("million.html");
  const moving = await perFrame(page, 60, wander);
  context.diagnostic(`${cells} cells: opened in ${page.opened.toFixed(0)} ms, ${moving.toFixed(1)} ms a frame`);
  assert.ok(page.opened < 15000, `${page.opened} ms`);
  const first = await pixels(page);
  await page.keyboard.press("m");
  assert.notEqual(await pixels(page), first);
  assert.deepEqual(page.complaints, []);
  await page.context().close();
});
