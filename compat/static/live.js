// Calls as they happen, from one stream of server-sent events; the browser takes it up again by itself where it broke.
"use strict";

const feed = document.getElementById("feed");
const rows = document.getElementById("calls");
const hasKeys = rows.parentElement.querySelectorAll("thead th").length === 10;
const calls = new Map();
const MOST = 100; // rows and messages: older ones are in the log of calls

function ms(value) {
  if (value === undefined || value === null) return "–";
  if (value < 1000) return `${Math.round(value)} ms`;
  return value < 60000 ? `${(value / 1000).toFixed(value < 10000 ? 2 : 1)} s` : `${Math.floor(value / 60000)} min ${Math.floor((value % 60000) / 1000)} s`;
}

function short(number) {
  if (number < 10000) return String(number);
  return number < 1e6 ? `${(number / 1e3).toFixed(number < 1e5 ? 1 : 0)}k` : `${(number / 1e6).toFixed(1)}M`;
}

function money(usd) {
  if (usd === undefined || usd === null) return "–";
  if (usd >= 0.1 || usd === 0) return `$${usd.toFixed(2)}`;
  return usd >= 0.0001 ? `$${Number(usd.toPrecision(2))}` : "<$0.0001";
}

function badge(kind, words) {
  const node = document.createElement("span");
  node.className = `badge ${kind}`;
  node.textContent = words;
  return node;
}

// Every word of an event is somebody else's: it is put in as text only.
function cell(...content) {
  const node = document.createElement("td");
  node.append(...content);
  return node;
}

function number(content) {
  const node = cell(content);
  node.className = "n";
  return node;
}

function moment(time) {
  const node = document.createElement("time");
  node.dateTime = time;
  node.dataset.form = "time";
  localise(node);
  return node;
}

function state(call) {
  if (call.outcome === "ok") return badge("good", feed.dataset.ok);
  if (call.outcome === "cancelled") return badge("", feed.dataset.cancelled);
  if (call.outcome) return badge("bad", String(call.status ?? call.outcome));
  if (call.ttft_ms !== undefined) return badge("warn", feed.dataset.streams);
  return badge("", call.deployment ? feed.dataset.tries : feed.dataset.began);
}

function draw(call) {
  const tokens = call.completion_tokens === undefined ? "" : `${short(call.prompt_tokens)} → ${short(call.completion_tokens)}`;
  const upstream = call.deployment ?? "–";
  const notes = document.createElement("span");
  notes.className = "muted";
  notes.textContent = call.notes ? ` ${call.notes}` : "";
  const error = document.createElement("div");
  error.className = "bad wrap";
  error.textContent = call.error ?? "";
  call.row.replaceChildren(
    cell(moment(call.began)), cell(state(call)), cell(call.model || "–", notes, ...(call.error ? [error] : [])), cell(upstream),
    ...(hasKeys ? [cell(call.client?.length === 68 ? `${call.client.slice(0, 12)}…` : (call.client ?? "–"))] : []),
    number(String(call.attempts ?? call.attempt ?? 0)), number(ms(call.ttft_ms)),
    number(tokens || (call.tokens_so_far ? `≈ ${short(call.tokens_so_far)}` : call.bytes_out ? `${short(call.bytes_out)} B` : "–")), number(ms(call.duration_ms)), number(money(call.cost_usd)),
  );
  call.row.classList.toggle("fresh", !call.outcome);
}

function note(event) {
  const { id, time, level, event: name, ...rest } = event;
  const node = document.createElement("li");
  const words = Object.entries(rest).map(([field, value]) => `${field}=${typeof value === "string" ? value : JSON.stringify(value)}`);
  node.append(...(time ? [moment(time), " "] : []), badge(level === "warning" || level === "error" ? "bad" : "", name), ` ${words.join(" ")}`);
  const list = document.getElementById("messages");
  list.prepend(node);
  while (list.children.length > MOST) list.lastElementChild.remove();
}

const OF_CALLS = new Set(["call", "call.started", "call.attempt", "call.first_token", "call.progress"]);

function take(event) {
  if (!event.request_id || !OF_CALLS.has(event.event)) return note(event);
  let call = calls.get(event.request_id);
  if (!call) {
    call = { row: document.createElement("tr"), began: event.time };
    calls.set(event.request_id, call);
    rows.prepend(call.row);
    document.getElementById("nothing").hidden = true;
    while (calls.size > MOST) {
      const [oldest, gone] = calls.entries().next().value;
      gone.row.remove();
      calls.delete(oldest);
    }
  }
  Object.assign(call, event);
  draw(call);
}

function connection(word) {
  const node = document.getElementById("connection");
  node.querySelector("strong").textContent = node.dataset[word];
  node.classList.toggle("degraded", word === "lost");
}

const source = new EventSource(feed.dataset.url);
source.addEventListener("open", () => connection("open"));
source.addEventListener("error", () => connection(source.readyState === EventSource.CLOSED ? "lost" : "waits"));
source.addEventListener("message", (message) => take(JSON.parse(message.data)));
source.addEventListener("missed", () => note({ event: feed.dataset.missed, level: "warning" }));
window.addEventListener("pagehide", () => source.close());
