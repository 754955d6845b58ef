// Talks to the server and keeps the session's id, which comes and goes in the header X-Session-ID.

const KEY = "silo-session";
const UNREACHABLE = "The server cannot be reached. Check the connection and try again.";

export class ApiError extends Error {
  constructor(status, code, message) {
    super(message || `The server answered with ${status}.`);
    this.status = status;
    this.code = code;
  }
}

export const session = {
  get id() { return sessionStorage.getItem(KEY); },
  set id(id) { if (id) sessionStorage.setItem(KEY, id); },
  // Whether the server was given something to keep: if it has nothing, it has been lost.
  get used() { return sessionStorage.getItem(`${KEY}-used`) !== null; },
  set used(used) {
    if (used) sessionStorage.setItem(`${KEY}-used`, "1");
    else sessionStorage.removeItem(`${KEY}-used`);
  },
  forget() {
    sessionStorage.removeItem(KEY);
    this.used = false;
  },
};

function check(status, id, data) {
  session.id = id;
  if (status < 200 || status > 299) throw new ApiError(status, data.error, data.message);
  return data;
}

export async function request(method, path, body) {
  const headers = session.id ? { "X-Session-ID": session.id } : {};
  if (body) headers["Content-Type"] = "application/json";
  let response, data;
  try {
    response = await fetch(path, { method, headers, body: body && JSON.stringify(body) });
    data = await response.json().catch(() => ({}));
  } catch {
    throw new ApiError(0, "network", UNREACHABLE);
  }
  return check(response.status, response.headers.get("X-Session-ID"), data);
}

// Sends a file and returns its answer; `onProgress` hears percent, `onStart` gets a function that stops it.
export function upload(file, onProgress, onStart) {
  return new Promise((resolve, reject) => {
    const xhr = new XMLHttpRequest();
    xhr.open("POST", `api/upload?name=${encodeURIComponent(file.name)}`);
    xhr.setRequestHeader("Content-Type", "text/csv");
    if (session.id) xhr.setRequestHeader("X-Session-ID", session.id);
    xhr.upload.onprogress = (event) => event.lengthComputable && onProgress((100 * event.loaded) / event.total);
    xhr.onerror = () => reject(new ApiError(0, "network", UNREACHABLE));
    xhr.onabort = () => reject(new ApiError(0, "stopped", "The upload was stopped."));
    xhr.onload = () => {
      let data = {};
      try { data = JSON.parse(xhr.responseText); } catch { /* not ours: the status says enough */ }
      try { resolve(check(xhr.status, xhr.getResponseHeader("X-Session-ID"), data)); } catch (error) { reject(error); }
    };
    onStart(() => xhr.abort());
    xhr.send(file);
  });
}
