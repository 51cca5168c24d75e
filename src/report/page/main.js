// Puts the page together, once, and draws what is chosen whenever that changes.

for (const [label, text] of about.title) {
  if (label) the("title").append(make("dt", {}, label), make("dd", {}, text));
  else the("title").append(make("dd", { className: "fact" }, text));
}
the("notes").append(...about.notes.map((note) => make("li", {}, note)));
const { version, model, device, precision, command } = about.made;
the("made").append([`headlight ${version}`, model, device, precision].filter(Boolean).join(" · "), make("br"), command);

document.documentElement.dataset.kind = about.kind;
buildControls();
onChange(() => switches.forEach(({ refresh }) => refresh()));
if (about.kind === "edges") onChange(drawGraph);
else onChange(layOut);
if (about.kind === "attention") onChange(drawHeads);
onChange(drawStrongest);
onChange(drawPins);
choose({ value: state.value });

let resizing = 0;
addEventListener("resize", () => {
  cancelAnimationFrame(resizing);
  resizing = requestAnimationFrame(() => (about.kind === "edges" ? drawGraph() : fit()));
});

// paper is white
let darkBefore = false;
addEventListener("beforeprint", () => {
  darkBefore = state.dark;
  if (darkBefore) choose({ dark: false });
});
addEventListener("afterprint", () => {
  if (darkBefore) choose({ dark: true });
});

document.documentElement.dataset.ready = "yes";
