// A browser, pages that the command line wrote, and what the browser said of them.

import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { chromium } from "playwright-core";

const binary = process.env.HEADLIGHT ?? "../../target/debug/headlight";

/** A folder of one's own with pages in it, and a browser that looks at them. */
export class Lab {
  static async open() {
    const lab = new Lab();
    lab.folder = mkdtempSync(join(tmpdir(), "headlight-page-"));
    lab.browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium", args: ["--no-sandbox"] });
    return lab;
  }

  async close() {
    await this.browser.close();
    rmSync(this.folder, { recursive: true });
  }

  path(name) {
    return join(this.folder, name);
  }

  read(name) {
    return readFileSync(this.path(name), "utf8");
  }

  /** Runs the command; what it said on standard output. */
  run(...words) {
    return execFileSync(binary, words, { cwd: this.folder, encoding: "utf8", stdio: ["ignore", "pipe", "pipe"] });
  }

  /** Runs a line as a shell does, with the command of this build. */
  shell(line) {
    const path = `${dirname(binary)}:${process.env.PATH}`;
    return execFileSync("sh", ["-c", line], { cwd: this.folder, encoding: "utf8", stdio: ["ignore", "pipe", "pipe"], env: { ...process.env, PATH: path } });
  }

  /** A CSV file as objects. */
  table(name) {
    return csv(this.read(name));
  }

  /** A page that has drawn itself. What it complains of, asks for or opens is in `complaints`. */
  async show(name, options = {}) {
    const context = await this.browser.newContext({ viewport: { width: 1400, height: 950 }, acceptDownloads: true, ...options });
    const page = await context.newPage();
    page.complaints = [];
    page.on("console", (message) => page.complaints.push(`${message.type()}: ${message.text()}`));
    page.on("pageerror", (error) => page.complaints.push(String(error.stack)));
    page.on("dialog", (dialog) => {
      page.complaints.push(`dialog: ${dialog.message()}`);
      dialog.dismiss();
    });
    page.on("request", (request) => {
      const address = request.url();
      if (address !== `file://${this.path(name)}` && !address.startsWith("data:") && !address.startsWith("blob:")) page.complaints.push(`request: ${address}`);
    });
    const start = performance.now();
    await page.goto(`file://${this.path(name)}`);
    await page.waitForFunction(() => document.documentElement.dataset.ready === "yes");
    page.opened = performance.now() - start;
    return page;
  }

  /** A page like another, grown to so many layers, heads and positions, and filled with made-up numbers. */
  grow(from, to, layers, heads, positions) {
    const html = this.read(from);
    const about = JSON.parse(/id="about">(.*?)<\/script>/s.exec(html)[1]);
    const [facet] = about.facets;
    facet.rows = Array.from({ length: layers }, (_, layer) => ({ ...facet.rows[0], label: `L${layer}`, site: `v${layer}`, layer }));
    facet.groups = Array.from({ length: positions }, (_, position) => ({ label: `_t${position}`, position, name: null }));
    facet.heads = Array.from({ length: heads }, (_, head) => String(head));
    about.facets = [facet];
    about.views[0].base.tokens = facet.groups.map((group) => group.label);
    about.cells = layers * heads * positions;
    about.values = about.values.slice(0, 2).map((column, i) => ({ ...column, targets: 1, offset: i * about.cells }));
    about.stride = 2 * about.cells;
    const numbers = new Float32Array(about.stride);
    let seed = 1;
    for (let i = 0; i < numbers.length; i++) {
      seed = (seed * 1103515245 + 12345) % 2147483648;
      numbers[i] = (seed / 2147483648) ** 8;
    }
    const text = Buffer.from(numbers.buffer).toString("base64");
    const grown = html
      .replace(/(id="about">).*?(<\/script>)/s, (_, open, close) => open + JSON.stringify(about).replaceAll("<", "\\u003c") + close)
      .replace(/(id="cells">).*?(<\/script>)/s, (_, open, close) => open + text + close);
    writeFileSync(this.path(to), grown);
    return about.cells;
  }
}

/** CSV with quotes, as objects by the names in its first line. */
export function csv(text) {
  const rows = [[]];
  let field = "";
  let inside = false;
  for (let i = 0; i < text.length; i++) {
    const c = text[i];
    if (inside) {
      if (c === '"' && text[i + 1] === '"') field += text[++i];
      else if (c === '"') inside = false;
      else field += c;
    } else if (c === '"') inside = true;
    else if (c === "," || c === "\n") {
      rows.at(-1).push(field);
      field = "";
      if (c === "\n") rows.push([]);
    } else field += c;
  }
  const [names, ...lines] = rows.filter((row) => row.length > 0);
  return lines.map((line) => Object.fromEntries(names.map((name, i) => [name, line[i]])));
}

/** A number as a page says it: with its own signs for minus and for nothing. */
export function said(text) {
  return Number(text.replace("−", "-").replace("+", "").replace("∞", "Infinity"));
}
