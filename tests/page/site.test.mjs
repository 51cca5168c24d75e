// The documentation as a site, opened from disk: nothing is fetched, nothing is wider than the screen, search finds, and
// the reference has what is called. `.ci/site` builds it.

import assert from "node:assert/strict";
import { existsSync, readdirSync } from "node:fs";
import { join, resolve } from "node:path";
import { after, before, test } from "node:test";
import { chromium } from "playwright-core";

const site = resolve(process.env.SITE ?? "../../target/documentation");
const skip = !existsSync(site) && "the site is not built (.ci/site)";
const pages = skip ? [] : readdirSync(site, { recursive: true }).filter((name) => name.endsWith(".html") && name !== "404.html");

let browser;
before(async () => {
  browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium", args: ["--no-sandbox"] });
});
after(() => browser.close());

/** A tab of some width, and what is wrong with what it shows. */
async function tab(width) {
  const context = await browser.newContext({ viewport: { width, height: 800 } });
  const page = await context.newPage();
  page.complaints = [];
  page.on("console", (message) => page.complaints.push(`${message.type()}: ${message.text()}`));
  page.on("pageerror", (error) => page.complaints.push(String(error)));
  page.on("request", (request) => {
    if (/^(https?|wss?):/.test(request.url())) page.complaints.push(`request: ${request.url()}`);
  });
  return page;
}

for (const width of [1400, 390]) {
  test(`every page on ${width} pixels`, { skip }, async () => {
    assert.ok(pages.length > 25, pages.join());
    const page = await tab(width);
    for (const name of pages) {
      await page.goto(`file://${join(site, name)}`);
      const over = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
      assert.ok(over <= 0, `${name} is ${over} pixels too wide`);
      assert.deepEqual(page.complaints, [], name);
    }
    await page.context().close();
  });
}

test("search works from disk", { skip }, async () => {
  const page = await tab(1400);
  await page.goto(`file://${join(site, "index.html")}`);
  await page.fill(".md-search__input", "path patching");
  const found = page.locator(".md-search-result__link").first();
  await found.waitFor();
  assert.match(await found.innerText(), /path patching/i);
  assert.deepEqual(page.complaints, []);
  await page.context().close();
});

test("the reference has signatures, examples and links", { skip }, async () => {
  const page = await tab(1400);
  await page.goto(`file://${join(site, "reference", "model.html")}`);
  const sweep = page.locator("#headlight\\.Model\\.sweep");
  assert.equal(await sweep.count(), 1);
  const body = page.locator(".doc-object:has(> #headlight\\.Model\\.sweep)");
  assert.match(await body.innerText(), /top_tokens[^]*>>> r = hl\.Model\("demo"\)\.sweep/);
  await body.locator("a", { hasText: /^Result$/ }).first().click();
  await page.waitForURL(/reference\/results\.html#headlight\.Result$/);
  await page.context().close();
});

test("pictures of notebooks are there", { skip }, async () => {
  const page = await tab(1400);
  await page.goto(`file://${join(site, "repository", "python", "examples", "capitals.html")}`);
  const box = await page.locator("article svg[width='1574']").first().boundingBox();
  assert.ok(box.width > 500 && box.width < 1400, JSON.stringify(box));
  await page.context().close();
});
