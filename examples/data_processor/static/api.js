// Sends requests and keeps the session id, which travels in the header X-Session-ID.

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
  // A response without an id changes nothing, nor does a late one to a request with another id.
  answered(sent, id) { if (id && sent === this.id) sessionStorage.setItem(KEY, id); },
  forget() { sessionStorage.removeItem(KEY); },
};

function check(status, sent, id, data) {
  session.answered(sent, id);
  if (status < 200 || status > 299) throw new ApiError(status, data.error, data.message);
  return data;
}

export async function request(method, path, body) {
  const sent = session.id;
  const headers = sent ? { "X-Session-ID": sent } : {};
  if (body) headers["Content-Type"] = "application/json";
  let response, data;
  try {
    response = await fetch(path, { method, headers, body: body && JSON.stringify(body) });
    data = await response.json().catch(() => ({}));
  } catch {
    throw new ApiError(0, "network", UNREACHABLE);
  }
  return check(response.status, sent, response.headers.get("X-Session-ID"), data);
}

// Uploads a file. `onProgress` is called with the percentage, `onStart` with a function that stops the upload.
export function upload(file, onProgress, onStart) {
  return new Promise((resolve, reject) => {
    const xhr = new XMLHttpRequest();
    xhr.open("POST", `api/upload?name=${encodeURIComponent(file.name)}`);
    xhr.setRequestHeader("Content-Type", "text/csv");
    const sent = session.id;
    if (sent) xhr.setRequestHeader("X-Session-ID", sent);
    xhr.upload.onprogress = (event) => event.lengthComputable && onProgress((100 * event.loaded) / event.total);
    xhr.onerror = () => reject(new ApiError(0, "network", UNREACHABLE));
    xhr.onabort = () => reject(new ApiError(0, "stopped", "The upload was stopped."));
    xhr.onload = () => {
      let data = {};
      try { data = JSON.parse(xhr.responseText); } catch { /* not from this application: the status is enough */ }
      try { resolve(check(xhr.status, sent, xhr.getResponseHeader("X-Session-ID"), data)); } catch (error) { reject(error); }
    };
    onStart(() => xhr.abort());
    xhr.send(file);
  });
}
