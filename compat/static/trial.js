// "Try it": one call through one of the gateway's own endpoints, read as it comes. It ends when the page is left.
"use strict";

const form = document.getElementById("trial");
const part = (name) => document.getElementById(name);
const SHOWN_CHARS = 400000; // of raw events: a page is no place for more

// What each wire API wants, and where in its events text, reasoning and faults stand.
const APIS = {
  "openai.chat": {
    body: (model, prompt) => ({ model, messages: [{ role: "user", content: prompt }], stream: true, stream_options: { include_usage: true } }),
    read: (event) => {
      const delta = event.choices?.[0]?.delta ?? {};
      return { text: delta.content, thinking: delta.reasoning_content ?? delta.reasoning };
    },
  },
  "anthropic.messages": {
    body: (model, prompt) => ({ model, max_tokens: 4096, messages: [{ role: "user", content: prompt }], stream: true }),
    read: (event) => ({ text: event.delta?.text, thinking: event.delta?.thinking }),
  },
  "openai.responses": {
    body: (model, prompt) => ({ model, input: prompt, stream: true, store: false }),
    read: (event) => ({
      text: event.type === "response.output_text.delta" ? event.delta : "",
      thinking: event.type === "response.reasoning_summary_text.delta" || event.type === "response.reasoning_text.delta" ? event.delta : "",
    }),
  },
};

let running = null;

function tell(word) {
  part("state").textContent = form.dataset[word] ?? "";
}

function add(id, text) {
  const node = part(id);
  const isAtEnd = node.scrollTop + node.clientHeight >= node.scrollHeight - 4;
  node.append(text);
  if (isAtEnd) node.scrollTop = node.scrollHeight;
}

function clear() {
  for (const id of ["answer", "thinking", "events", "headers", "request"]) part(id).textContent = "";
  for (const id of ["receipt", "details", "no-receipt", "thinking-box"]) part(id).hidden = true;
  part("notes").textContent = "–";
}

function show(api, event) {
  if (event.error || event.type === "error" || event.response?.error) {
    add("answer", (event.error ?? event.response?.error ?? event).message ?? JSON.stringify(event));
    return false;
  }
  const { text, thinking } = api.read(event);
  if (typeof text === "string") add("answer", text);
  if (typeof thinking === "string" && thinking) {
    part("thinking-box").hidden = false;
    add("thinking", thinking);
  }
  return true;
}

async function read(api, answer) {
  const decoder = new TextDecoder();
  let rest = "";
  let shown = 0;
  let isWell = true;
  for (const reader = answer.body.getReader(); ;) {
    const { value, done } = await reader.read();
    if (done) return isWell;
    tell("streams");
    const text = decoder.decode(value, { stream: true });
    if ((shown += text.length) < SHOWN_CHARS) add("events", text);
    const lines = (rest + text).split("\n");
    rest = lines.pop();
    for (const line of lines) {
      const data = line.startsWith("data:") ? line.slice(5).trim() : "";
      if (data.startsWith("{")) isWell = show(api, JSON.parse(data)) && isWell;
    }
  }
}

async function receipt(id) {
  for (let tries = 0; tries < 10; tries++) {
    const answer = await fetch(`/try/receipt?id=${encodeURIComponent(id)}`);
    const found = answer.ok ? await answer.json() : {};
    if (found.url) {
      for (const node of part("receipt").querySelectorAll("[data-field]")) node.textContent = found[node.dataset.field];
      part("receipt").hidden = false;
      part("details").firstElementChild.href = found.url;
      part("details").hidden = false;
      return;
    }
    await new Promise((resolve) => window.setTimeout(resolve, 300));
  }
  part("no-receipt").hidden = false;
}

async function call(name, model, prompt, signal) {
  const api = APIS[name];
  const body = api.body(model, prompt);
  part("request").textContent = JSON.stringify(body, null, 2);
  const answer = await fetch(`/try?api=${encodeURIComponent(name)}`, {
    method: "POST", body: JSON.stringify(body), headers: { "content-type": "application/json" }, signal,
  });
  part("headers").textContent = `${answer.status}\n${[...answer.headers].map(([field, value]) => `${field}: ${value}`).join("\n")}`;
  part("notes").textContent = answer.headers.get("x-compat-notes") ?? "–";
  let isWell = answer.ok;
  if (answer.headers.get("content-type")?.startsWith("text/event-stream")) {
    isWell = await read(api, answer);
  } else {
    const text = await answer.text();
    part("events").textContent = text;
    show(api, JSON.parse(text));
  }
  tell(isWell ? "done" : "failed");
  return answer.headers.get("x-request-id");
}

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  running?.abort();
  const own = running = new AbortController();
  const asked = new FormData(form);
  clear();
  tell("waits");
  part("stop").disabled = false;
  try {
    const id = await call(asked.get("api"), asked.get("model"), asked.get("prompt"), own.signal);
    if (id) await receipt(id);
  } catch (error) {
    if (own === running) {
      tell(own.signal.aborted ? "stopped" : "failed");
      if (!own.signal.aborted) add("answer", String(error));
    }
  }
  if (own === running) part("stop").disabled = true;
});

part("stop").addEventListener("click", () => running?.abort());
window.addEventListener("pagehide", () => running?.abort());
