// What is chosen, and who wants to know when that changes.

const state = {
  view: 0,
  value: about.shown,
  /** `value`, or `change`: from the clean base. */
  mode: "value",
  /** -1 for all side by side. */
  target: -1,
  /** Index of a facet, -1 for all. */
  facet: -1,
  /** `all` side by side, the `strongest` of each place, or a head's column. */
  head: "all",
  palette: "standard",
  zoom: 1,
  dark: matchMedia("(prefers-color-scheme: dark)").matches,
};

const listeners = [];

/** Whoever draws something of what is chosen. */
function onChange(listener) {
  listeners.push(listener);
}

/** Changes what is chosen. */
function choose(changes) {
  Object.assign(state, changes);
  if ("value" in changes) state.mode = usualMode(state.value);
  if (state.mode === "change" && !changesKnown[state.value]) state.mode = "value";
  document.documentElement.classList.toggle("dark", state.dark);
  for (const listener of listeners) listener(changes);
}

/** Probabilities are shown as they are, everything else as a change, where that is known. */
function usualMode(value) {
  const column = about.values[value];
  return changesKnown[value] && !column.probability && !column.recovery ? "change" : "value";
}

/** What is shown of a cell. */
function shownOf(view, target, cell) {
  const x = number(view, state.value, target, cell);
  return state.mode === "change" ? x - baseOf(view, state.value, target, cell) : x;
}

/** How far a cell is from the base; of a column without one, how far from zero. */
function changeOf(view, value, target, cell) {
  const base = baseOf(view, value, target, cell);
  const x = number(view, value, target, cell);
  return Number.isNaN(base) ? x : x - base;
}

/** The targets that are shown of a column. */
function targetsShown() {
  const count = about.values[state.value].targets;
  if (state.target >= 0 && count > 1) return [Math.min(state.target, count - 1)];
  return [...Array(count).keys()];
}

/** What a target is called; a column that is the whole run's has its own name. */
function targetLabel(value, target) {
  const { name, targets } = about.values[value];
  return targets > 1 || ["prob", "logprob", "logit"].includes(name) ? about.targets[target] : name;
}

/** Says something to those who do not see it. */
function say(text) {
  the("said").textContent = text;
}

