// From a number to a colour: a sequential scale for what has one side, red to blue round the middle for what has two.

const PALETTES = {
  standard: {
    label: "standard",
    // viridis
    sequential: ["#440154", "#472d7b", "#3b528b", "#2c728e", "#21918c", "#28ae80", "#5ec962", "#addc30", "#fde725"],
    // ColorBrewer's RdBu: red below, blue above
    diverging: ["#b2182b", "#d6604d", "#f4a582", "#fddbc7", "#f7f7f7", "#d1e5f0", "#92c5de", "#4393c3", "#2166ac"],
  },
  blind: {
    label: "colour-blind",
    // cividis
    sequential: ["#00224e", "#1a386f", "#434e6c", "#61656f", "#7d7c78", "#9b9476", "#bcae6c", "#dfc958", "#fee838"],
    // ColorBrewer's PuOr: orange below, purple above
    diverging: ["#b35806", "#e08214", "#fdb863", "#fee0b6", "#f7f7f7", "#d8daeb", "#b2abd2", "#8073ac", "#542788"],
  },
  grey: {
    label: "grey",
    sequential: ["#ffffff", "#e4e4e4", "#cacaca", "#b0b0b0", "#969696", "#7a7a7a", "#5e5e5e", "#3f3f3f", "#1a1a1a"],
    // no grey has two sides: the size alone
    diverging: ["#1a1a1a", "#5e5e5e", "#969696", "#cacaca", "#ffffff", "#cacaca", "#969696", "#5e5e5e", "#1a1a1a"],
  },
};

const STEPS = 512;

function channels(hex) {
  return [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16));
}

/** A table of colours from the lowest to the highest, as pixels of an image. */
function lookup(stops) {
  const table = new Uint32Array(STEPS);
  const bytes = new Uint8Array(table.buffer);
  const ends = stops.map(channels);
  for (let i = 0; i < STEPS; i++) {
    const place = (i / (STEPS - 1)) * (ends.length - 1);
    const index = Math.min(Math.floor(place), ends.length - 2);
    const share = place - index;
    for (let c = 0; c < 3; c++) {
      bytes[4 * i + c] = Math.round(ends[index][c] + (ends[index + 1][c] - ends[index][c]) * share);
    }
    bytes[4 * i + 3] = 255;
  }
  return table;
}

/** A scale over what is shown: its ends, whether it is centred, and its colours. */
function scaleOf(low, high, centred, natural, palette) {
  if (low > high) [low, high] = [0, 1];
  let diverging = centred;
  if (!centred && low < 0 && high > 0) diverging = true;
  if (diverging) {
    const reach = Math.max(Math.abs(low), Math.abs(high)) || 1;
    [low, high] = [-reach, reach];
  } else {
    // starting at zero is honest, unless all there is to see happens far above it
    if (low >= 0 && (natural || low < 0.5 * high) && high - low >= 0.1 * high) low = 0;
    if (low === high) [low, high] = high > 0 ? [0, high] : high < 0 ? [low, 0] : [0, 1];
  }
  const stops = PALETTES[palette][diverging ? "diverging" : "sequential"];
  return { low, high, diverging, table: lookup(stops) };
}

/** The place of a number in a scale's table. */
function step(scale, x) {
  const share = (x - scale.low) / (scale.high - scale.low);
  return share <= 0 ? 0 : share >= 1 ? STEPS - 1 : Math.round(share * (STEPS - 1));
}

/** A colour as CSS has it. */
function css(pixel) {
  return "#" + [0, 8, 16].map((shift) => ((pixel >>> shift) & 255).toString(16).padStart(2, "0")).join("");
}

/** Black or white, whichever reads better on a colour. */
function inkOn(pixel) {
  const linear = (shift) => {
    const x = ((pixel >>> shift) & 255) / 255;
    return x <= 0.04045 ? x / 12.92 : ((x + 0.055) / 1.055) ** 2.4;
  };
  return 0.2126 * linear(0) + 0.7152 * linear(8) + 0.0722 * linear(16) > 0.179 ? "#000000" : "#ffffff";
}

const namedColours = new Map();

/** The colour of a name in the styles, under the theme that is chosen. */
function named(name) {
  const key = `${name} ${state.dark}`;
  if (!namedColours.has(key)) namedColours.set(key, getComputedStyle(document.documentElement).getPropertyValue("--" + name).trim());
  return namedColours.get(key);
}

