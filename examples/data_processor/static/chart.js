// Draws the result as horizontal bars.

const MOST = 15;
const ROW = 34;

function element(name, attributes, text) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (text !== undefined) made.textContent = text;
  return made;
}

// Measures text in the font of the page.
const pen = document.createElement("canvas").getContext("2d");
const wide = (text) => Math.ceil(pen.measureText(text).width);

function cut(text, width) {
  if (wide(text) <= width) return text;
  let most = text.length;
  while (most > 1 && wide(`${text.slice(0, most)}…`) > width) most = Math.min(most - 1, Math.floor(most * 0.9));
  return `${text.slice(0, most)}…`;
}

// Draws rows of [label, number]; `format` turns a number into text. Returns how many rows are shown.
export function draw(place, title, rows, format) {
  const shown = rows.slice(0, MOST);
  const width = Math.max(240, place.clientWidth);
  pen.font = getComputedStyle(place).font;
  const labels = Math.min(width * 0.36, Math.max(...shown.map(([label]) => wide(label))) + 12);
  const numbers = Math.max(...shown.map(([, number]) => wide(format(number)))) + 10;
  const values = shown.map(([, number]) => Number(number ?? 0));
  const low = Math.min(0, ...values), high = Math.max(0, ...values);
  const room = width - labels - numbers * (low < 0 ? 2 : 1);
  const zero = labels + (low < 0 ? numbers : 0);
  const at = (number) => zero + (room * (number - low)) / (high - low || 1);

  const svg = element("svg", {
    viewBox: `0 0 ${width} ${shown.length * ROW}`, width, height: shown.length * ROW,
    role: "img", "aria-labelledby": "chart-title chart-text",
  });
  svg.append(element("title", { id: "chart-title" }, title));
  const all = shown.map(([label, number]) => `${label}: ${format(number)}`).join("; ");
  svg.append(element("desc", { id: "chart-text" }, `${shown.length} bars. ${all}.`));
  shown.forEach(([label, number], row) => {
    const y = row * ROW, middle = y + ROW / 2;
    const from = Math.min(at(0), at(values[row])), to = Math.max(at(0), at(values[row]));
    const bar = element("g", {});
    bar.append(element("title", {}, `${label}: ${format(number)}`));
    bar.append(element("rect", { class: "row", x: 0, y: y + 1, width, height: ROW - 2, rx: 6 }));
    bar.append(element("text", { class: "label", x: labels - 10, y: middle }, cut(label, labels - 12)));
    bar.append(element("rect", { class: "bar", x: from, y: y + 7, width: Math.max(2, to - from), height: ROW - 14, rx: 3 }));
    const end = values[row] < 0 ? { x: from - 8, class: "number before" } : { x: to + 8, class: "number" };
    bar.append(element("text", { ...end, y: middle }, format(number)));
    svg.append(bar);
  });
  place.replaceChildren(svg);
  return shown.length;
}
