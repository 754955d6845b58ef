import { ApiError, request, session, upload } from "./api.js";
import { draw } from "./chart.js";
import { format, readable, rounded, size } from "./format.js";
import { $, dismiss, fill, notify, rows, show } from "./page.js";
import { onChoice, understood } from "./reading.js";

const POLL = 300;
const RETRY = 2000;
const QUIET = 2000;  // Between two requests while the event stream is open.
const AWAY = [0, 502, 503, 504];  // No connection, or a server that is temporarily unavailable.
const SAYS = { count: "Number of rows", sum: "Sum", mean: "Mean", min: "Smallest", max: "Largest" };

let limits = { upload_bytes: Infinity, ttl: 3600 };
let source = null;
let asked = null;  // The file for which the form is filled in.
let result = null;
let stopUpload = null;
let watching = 0;
let expiry = 0;
let busy = false;
let reading = false;
let choices = {};  // How to read the file: choices made while a request is running.

// Notices

function expired() {
  watching += 1;
  $("main").inert = true;
  notify("warn", "Your session has expired", "The file and its result are gone from the server.", "Start again", () => {
    session.forget();
    source = result = null;
    dismiss();
    show("choose");
  });
  $("notice-button").focus();
}

function failed(error, title = "That did not work") {
  if (!(error instanceof ApiError)) console.error(error);
  if (error.status === 410) expired();
  else if (error.code === "stopped") notify("info", "Stopped", error.message, "Close", dismiss);
  else notify("error", title, error.message, "Close", dismiss);
}

// Each response renews the session. A request just after its end shows the user without a click that it has expired.
function renewed() {
  clearTimeout(expiry);
  const wait = Math.min(limits.ttl * 1000 + 500, 2 ** 31 - 1);
  if (session.id) expiry = setTimeout(() => call("GET", "api/status").catch(failed), wait);
}

async function call(method, path, body) {
  const answer = await request(method, path, body);
  renewed();
  return answer;
}

// Runs the action of a control, one at a time, and shows its errors.
function act(work) {
  return async (event) => {
    event?.preventDefault();
    if (busy) return;
    busy = true;
    dismiss();
    try { await work(event); } catch (error) { failed(error); } finally { busy = false; }
  };
}

// Choosing a file

async function send(file) {
  if (!file) return;
  if (file.size > limits.upload_bytes) {
    const text = `“${file.name}” has ${size(file.size)}. Up to ${size(limits.upload_bytes)} can be uploaded.`;
    notify("error", "The file is too large", text, "Close", dismiss);
    return;
  }
  const progress = (percent) => {
    $("sending-bar").value = percent;
    $("sending-percent").textContent = percent < 100 ? `${Math.floor(percent)} %` : "Reading the file";
  };
  $("sending-name").textContent = file.name;
  progress(0);
  $("drop").hidden = $("sample-line").hidden = true;
  $("sending").hidden = false;
  try {
    received((await upload(file, progress, (stop) => { stopUpload = stop; })).source);
  } finally {
    stopUpload = null;
    $("drop").hidden = $("sample-line").hidden = false;
    $("sending").hidden = true;
  }
}

function received(given) {
  source = given;
  result = null;
  renewed();
  ask();
}

// Choosing what to do with it

function ask() {
  if (asked !== source) offer();
  show("options");
}

function offer() {
  asked = source;
  const { columns, numeric, preview, notes } = source.table;
  $("source-name").textContent = source.name;
  $("source-facts").textContent = `${size(source.size)}, ${columns.length} column${columns.length > 1 ? "s" : ""}`;
  $("notes").replaceChildren(...notes.map((note) => Object.assign(document.createElement("li"), { textContent: note })));
  $("notes").hidden = !notes.length;
  fill($("by"), columns, columns.find((name) => !numeric.includes(name)));
  fill($("value"), numeric.length ? numeric : columns);
  $("how").value = "count";
  $("value").disabled = true;
  understood(source.table);
  rows($("preview"), columns, preview, (at) => numeric.includes(columns[at]));
}

// Has the file read in another way. If that fails, the page still shows how it was read before.
async function reread(choice) {
  $("preview-box").setAttribute("aria-busy", "true");
  try {
    ({ source } = await call("POST", "api/reading", { ...source.table.chosen, ...choice }));
    result = null;
    const question = ["by", "how", "value"].map((name) => [$(name), $(name).value]);
    offer();
    for (const [control, value] of question) {
      if ([...control.options].some((option) => option.value === value)) control.value = value;
    }
    $("value").disabled = $("how").value === "count";
  } catch (error) {
    understood(source.table);
    throw error;
  } finally {
    $("preview-box").removeAttribute("aria-busy");
  }
}

// Has the file read as chosen, one request after the other.
function choose(choice) {
  if (busy && !reading) return;
  Object.assign(choices, choice);
  act(async () => {
    reading = true;
    try {
      while (Object.keys(choices).length) {
        const next = choices;
        choices = {};
        await reread(next);
      }
    } finally {
      reading = false;
      choices = {};
    }
  })();
}

async function start() {
  const value = $("how").value === "count" ? null : $("value").value;
  await call("POST", "api/start", { by: $("by").value, how: $("how").value, value });
  result = null;
  report({ progress: 0, message: "Waiting", steps: [], logs: [], eta: null });
  show("running");
  watch().catch(failed);
}

// Watching the work

function report(task) {
  $("bar").value = task.progress;
  $("percent").textContent = `${Math.floor(task.progress)} %`;
  $("message").textContent = readable(task.message);
  const at = task.steps.findIndex((step) => step.status === "running");
  $("step").textContent = at < 0 ? "" : `Step ${at + 1} of ${task.steps.length}: ${task.steps[at].name}`;
  $("eta").textContent = task.eta === null ? "" : `about ${Math.max(1, Math.ceil(task.eta))} s left`;
  $("steps").replaceChildren(...task.steps.map((step) => Object.assign(document.createElement("li"), {
    className: step.status, textContent: step.name,
  })));
  const text = task.logs.join("\n");
  if ($("log").textContent !== text) {
    $("log").textContent = text;
    $("log").scrollTop = $("log").scrollHeight;
  }
}

async function watch() {
  const mine = ++watching;
  let lost = false, over = false, goOn = () => {};
  const events = new EventSource(`api/tasks/events?_sid=${encodeURIComponent(session.id)}`);
  events.addEventListener("task", (event) => {
    const task = JSON.parse(event.data);
    over = !task.running;
    if (mine !== watching || over) goOn();
    else report(task);
  });
  try {
    while (mine === watching) {
      try {
        const task = await call("GET", "api/task");
        if (mine !== watching) return;
        if (lost) dismiss();
        lost = false;
        report(task);
        if (!task.running) return await finished(task);
      } catch (error) {
        if (!AWAY.includes(error.status)) throw error;
        if (!lost) notify("error", "The server is not responding", "Trying again…", "Close", dismiss);
        lost = true;
      }
      const told = events.readyState === EventSource.OPEN && !over;
      await new Promise((resolve) => {
        goOn = resolve;
        setTimeout(resolve, lost ? RETRY : told ? QUIET : POLL);
      });
    }
  } finally {
    events.close();
  }
}

async function finished(task) {
  if (task.complete) {
    present(await call("GET", "api/result"));
    return;
  }
  ask();
  if (task.error_type === "TaskLost") {
    notify("warn", "The work was interrupted", "The server stopped meanwhile. Your file is still here: start again.", "Close", dismiss);
  } else if (task.error) notify("error", "The file could not be processed", task.error, "Close", dismiss);
  else notify("info", "Cancelled", "Your file is still here. Nothing else was kept.", "Close", dismiss);
}

// The result

const say = () => (result.how === "mean" ? rounded : format);

function paint() {
  if (!result || $("result").hidden) return;
  const drawn = draw($("chart"), $("result-title").textContent, result.shown.map((row) => [row[0] || "(empty)", row[2]]), say());
  $("chart-more").textContent = drawn < result.groups ? `The chart shows the first ${drawn} groups.` : "";
}

function present(given) {
  result = given;
  const [by, , measure] = given.names;
  const what = given.how === "count" ? SAYS.count : `${SAYS[given.how]}${measure.slice(given.how.length)}`;
  const counted = (number, noun, after = "") => `${format(number)} ${noun}${number === 1 ? "" : "s"}${after}`;
  const facts = [`${counted(given.rows, "row")} in ${counted(given.groups, "group")}`];
  if (given.skipped) facts.push(counted(given.skipped, "row", " left out (wrong number of cells)"));
  if (given.missing) facts.push(counted(given.missing, "missing value"));
  if (given.odd) facts.push(counted(given.odd, "non-numeric value"));
  if (given.ambiguous) facts.push(counted(given.ambiguous, "ambiguous number", " (decimal mark or thousands mark)"));
  $("result-title").textContent = `${what} by ${by}`;
  $("result-facts").textContent = `${facts.join(", ")}.`;
  $("download").href = `api/download?_sid=${encodeURIComponent(session.id)}`;
  rows($("table"), given.names, given.shown.map((row) => [row[0] || "(empty)", row[1], say()(row[2])]), (at) => at > 0);
  $("table-more").textContent = given.groups > given.shown.length
    ? `The first ${given.shown.length} of ${format(given.groups)} groups. The download has all of them.` : "";
  show("result");
  paint();
}

// Continues where the user left off.
async function resume() {
  const state = await call("GET", "api/status").catch((error) => {
    show("choose", false);
    throw error;
  });
  limits = state.limits;
  renewed();
  $("limit").textContent = `Up to ${size(limits.upload_bytes)}. Commas, semicolons or tabs.`;
  ({ source } = state);
  if (!source) {
    show("choose", false);
  } else if (state.task.running) {
    report(state.task);
    show("running");
    await watch();
  } else if (state.result) present(state.result);
  else ask();
}

$("file").onchange = act(() => {
  const [file] = $("file").files;
  $("file").value = "";  // So that the same file can be chosen again, for example after a correction.
  return send(file);
});
$("sending-stop").onclick = () => stopUpload?.();
$("sample").onclick = act(async () => received((await call("POST", "api/sample")).source));
onChoice(choose);
$("how").onchange = () => { $("value").disabled = $("how").value === "count"; };
$("question").onsubmit = act(start);
$("other").onclick = act(() => show("choose"));
$("cancel").onclick = act(() => call("POST", "api/cancel"));
$("again").onclick = act(ask);
$("reset").onclick = act(async () => {
  await call("POST", "api/reset");
  session.forget();
  source = result = null;
  show("choose");
});
// Ask first, so that an expired session is reported here and not on an empty page.
$("download").onclick = act(async () => {
  await call("GET", "api/status");
  location.href = $("download").href;
});
for (const name of ["dragenter", "dragover", "dragleave", "drop"]) {
  document.addEventListener(name, (event) => {
    event.preventDefault();
    $("drop").classList.toggle("over", name === "dragenter" || name === "dragover");
  });
}
$("drop").addEventListener("drop", act((event) => send(event.dataTransfer.files[0])));
new ResizeObserver(paint).observe($("chart"));
resume().catch(failed);
