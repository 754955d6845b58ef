// Numbers as text, with all their digits. The server sends a number that JavaScript cannot hold exactly as text.

const EXACT = new Intl.NumberFormat("en", { maximumFractionDigits: 20 });
const ROUNDED = new Intl.NumberFormat("en", {
  maximumFractionDigits: 6, maximumSignificantDigits: 6, roundingPriority: "morePrecision",
});

export function format(number) {
  return number === null || number === undefined ? "–" : EXACT.format(number);
}

// For quotients: six decimal places, or six significant digits if that shows more.
export function rounded(number) {
  return number === null || number === undefined ? "–" : ROUNDED.format(number);
}

// Groups the digits of numbers in a text, such as a task's message.
export function readable(text) {
  return text.replace(/\d{5,}/g, (digits) => format(Number(digits)));
}

export function size(bytes) {
  const [number, unit] = bytes < 1e6 ? [bytes / 1024, "KB"] : [bytes / 1048576, "MB"];
  return `${number.toLocaleString("en", { maximumFractionDigits: number < 10 ? 1 : 0 })} ${unit}`;
}
