// Numbers as people read them, with all of their digits. A number with more digits than JavaScript's numbers hold comes as text.

const EXACT = new Intl.NumberFormat("en", { maximumFractionDigits: 20 });
const ROUNDED = new Intl.NumberFormat("en", {
  maximumFractionDigits: 6, maximumSignificantDigits: 6, roundingPriority: "morePrecision",
});

export function format(number) {
  return number === null || number === undefined ? "–" : EXACT.format(number);
}

// For what was divided: six places, or six digits where that is more.
export function rounded(number) {
  return number === null || number === undefined ? "–" : ROUNDED.format(number);
}

// Numbers in a text: those of a task's message are plain.
export function readable(text) {
  return text.replace(/\d{5,}/g, (digits) => format(Number(digits)));
}

export function size(bytes) {
  const [number, unit] = bytes < 1e6 ? [bytes / 1024, "KB"] : [bytes / 1048576, "MB"];
  return `${number.toLocaleString("en", { maximumFractionDigits: number < 10 ? 1 : 0 })} ${unit}`;
}
