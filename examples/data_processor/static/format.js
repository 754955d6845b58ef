// Numbers as people read them.

export function format(number) {
  if (number === null || number === undefined) return "–";
  return number.toLocaleString("en", { maximumSignificantDigits: Number.isInteger(number) ? 15 : 6 });
}

// Numbers in a text: those of a task's message are plain.
export function readable(text) {
  return text.replace(/\d{5,}/g, (digits) => format(Number(digits)));
}

export function size(bytes) {
  const [number, unit] = bytes < 1e6 ? [bytes / 1024, "KB"] : [bytes / 1048576, "MB"];
  return `${number.toLocaleString("en", { maximumFractionDigits: number < 10 ? 1 : 0 })} ${unit}`;
}
