// How the file is read: what the server has detected, and what the user chooses instead.

import { $ } from "./page.js";

const LINES = 10;  // How many lines are offered as the header.
const CHOICES = {
  delimiter: { ",": "comma", ";": "semicolon", "\t": "tab", "|": "bar", " ": "space" },
  decimal: { ".": "point", ",": "comma" },
  thousands: { "": "none", ".": "point", ",": "comma", " ": "space", "'": "apostrophe" },
  encoding: {
    "utf-8": "UTF-8", cp1252: "Western (cp1252)", cp1250: "Central European (cp1250)", cp1251: "Cyrillic (cp1251)",
    cp1253: "Greek (cp1253)", cp1254: "Turkish (cp1254)", cp1257: "Baltic (cp1257)", cp850: "Western, DOS (cp850)",
    koi8_r: "Cyrillic (KOI8-R)", shift_jis: "Japanese (Shift JIS)", gb18030: "Chinese (GB 18030)",
    big5: "Chinese (Big5)", euc_kr: "Korean (EUC-KR)", "utf-16": "UTF-16", "utf-16-le": "UTF-16, low byte first",
    "utf-16-be": "UTF-16, high byte first", euc_jp: "Japanese (EUC-JP)", iso8859_2: "Central European (ISO 8859-2)",
    cp852: "Central European, DOS (cp852)", cp866: "Cyrillic, DOS (cp866)", cp874: "Thai (cp874)",
    cp1255: "Hebrew (cp1255)", cp1256: "Arabic (cp1256)", mac_roman: "Western, Mac (Mac Roman)",
  },
};
const NAMES = [...Object.keys(CHOICES), "header"];

const select = (name) => $(`read-${name}`);

// Shows how a table is read.
export function understood({ form, marks, header, encoding, chosen }) {
  for (const [name, values] of Object.entries(CHOICES)) {
    select(name).replaceChildren(...Object.entries(values).map(([value, text]) => new Option(text, value)));
  }
  const last = Math.max(LINES, header + 2);
  select("header").replaceChildren(
    new Option("none", 0), ...Array.from({ length: last }, (_, at) => new Option(`line ${at + 1}`, at + 1)),
  );
  const found = { delimiter: form.delimiter, ...marks, header, encoding };
  // The first line of a file can name a separator that is not in the list.
  if (!(form.delimiter in CHOICES.delimiter)) select("delimiter").add(new Option(form.delimiter, form.delimiter));
  for (const name of NAMES) select(name).value = found[name];
  $("read-undo").hidden = Object.values(chosen).every((value) => value === null);
}

// Calls `read` with the new choice each time the user changes one.
export function onChoice(read) {
  for (const name of NAMES) {
    select(name).onchange = ({ target: { value } }) => read({ [name]: name === "header" ? Number(value) : value });
  }
  $("read-undo").onclick = () => read(Object.fromEntries(NAMES.map((name) => [name, null])));
}
