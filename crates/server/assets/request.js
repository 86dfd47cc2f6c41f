// Requests to the server, with the key where it asks for one.

import { put } from "./figures.js";

/** A request with the key, if there is one. A wrong or missing key shows the box for it. */
export async function request(path, options = {}) {
  const key = sessionStorage.getItem("key");
  const headers = { ...options.headers, ...(key && { authorization: `Bearer ${key}` }) };
  const response = await fetch(path, { ...options, headers });
  if (response.status === 401) {
    document.getElementById("key").hidden = false;
    put("key-says", key ? "That is not the key." : "");
  }
  return response;
}
